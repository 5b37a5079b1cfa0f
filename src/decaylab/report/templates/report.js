// Opens the claim that the address names, and copies BibTeX entries. Without scripts everything can still be read.
(() => {
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.classList.contains("one")) target.querySelector("details").open = true;
  };
  addEventListener("hashchange", open);
  open();
  for (const entry of document.querySelectorAll(".references pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(entry.textContent);
      button.textContent = "Copied";
    });
    entry.before(button);
  }
})();
