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
