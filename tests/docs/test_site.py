"""The site's own check of what it built: dead links, and addresses that a browser would ask for from another host."""

import pytest

from scripts.docs_site import problems


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("a.html", '<p id="here"><a href="#here"></a><a href="b/">b</a><a href="https://a.test/x">x</a>', None),
        ("a.html", '<img src="data:image/png;base64,AA=="><script src="/b/index.html"></script>', None),
        ("a.html", '<a href="c/">c</a>', "c/"),
        ("a.html", '<a href="b/#nowhere">b</a>', "b/#nowhere"),
        ("a.html", '<img src="missing.png">', "missing.png"),
        ("a.html", '<script src="https://a.test/x.js"></script>', "https://a.test/x.js"),
        ("a.html", '<link rel="stylesheet" href="//a.test/x.css">', "//a.test/x.css"),
        ("a.html", '<p style="background: url(https://a.test/x.png)">', "https://a.test/x.png"),
        ("a.css", "@import 'https://a.test/x.css';", "https://a.test/x.css"),
        ("a.css", "@font-face { src: url(https://a.test/x.woff2) }", "https://a.test/x.woff2"),
        ("a.html", "<pre>```sh\n* a</pre><p><code>* a</code> * a</p>", None),
        ("a.html", "<p>```sh wait make demo ```</p>", "```sh wait"),
        ("a.html", "<p>A list:\n* a\n* b</p>", "* a"),
        ("a.html", "<p><strong>A list:</strong>\n1. a</p>", "1. a"),
        ("a.svg", '<svg><image href="https://a.test/x.png"/></svg>', "https://a.test/x.png"),
    ],
)
def test_a_page_has_no_dead_link_and_asks_no_other_host(tmp_path, file, text, named):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text("<p>b</p>")
    (tmp_path / file).write_text(text)
    found = list(problems(tmp_path))
    assert [name for name, _ in found] == ([] if named is None else [file])
    assert all(named in what for _, what in found)
