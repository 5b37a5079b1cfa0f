from decaylab.files import write_json
from decaylab.report.provenance import data_list


def test_data_sets_have_titles_sizes_and_licences():
    html = data_list(["cifar10", "procedural", "cifar10", "my-books.tar.xz+more.txt", "stdlib"])
    assert html.count("<li>") == 4
    assert (
        '<a href="https://www.cs.toronto.edu/~kriz/cifar.html">CIFAR-10</a> (50,000 train images, 10,000 test' in html
    )
    assert "published without a licence, for research" in html
    assert (
        "generated images: smooth prototypes under clutter and noise. Licence: generated; no rights reserved." in html
    )
    assert "my-books+more: files that the user brought, licence unknown" in html
    assert "(about 11 million bytes). Licence: Python Software Foundation License 2." in html
    assert data_list([]) == ""


def test_what_was_found_in_a_users_files_is_shown(tmp_path):
    found = {"read": {".txt files": 1200}, "skipped": {}, "notes": ["<b> & co"]}
    write_json(tmp_path / "data" / "key" / "meta.json", {"source": "notes", "found": found})
    assert "licence unknown; read 1,200 .txt files; &lt;b&gt; &amp; co</li>" in data_list(["notes"], tmp_path)
    assert data_list(["other"], tmp_path) == data_list(["other"])
