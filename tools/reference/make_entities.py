"""Writes src/text/entities.def: the named character references of HTML 5 as Python has them, which is
the list of https://html.spec.whatwg.org/multipage/named-characters.html.

    python3 tools/reference/make_entities.py
"""

import html.entities
import pathlib

OUT = pathlib.Path(__file__).resolve().parents[2] / "src" / "text" / "entities.def"
HEAD = """/* X(name, text in UTF-8): the named character references of HTML 5, sorted by the bytes of the name;
 * those that may stand without a semicolon are there in both forms. Written by
 * tools/reference/make_entities.py. */
"""


def row(name, text):
    data = text.encode()
    # prompt.c gives twice the room of the text
    assert len(data) <= 2 * (len(name) + 1) and len(name) <= 33
    plain = all(32 < b < 127 and chr(b) not in '"\\?' for b in data)
    written = text if plain else "".join("\\%03o" % b for b in data)
    return f'X("{name}", "{written}")'


lines = [""]
for name, text in sorted(html.entities.html5.items(), key=lambda item: item[0].encode()):
    entry = row(name, text)
    if len(lines[-1]) + 1 + len(entry) > 110:
        lines.append("")
    lines[-1] += (" " if lines[-1] else "") + entry
OUT.write_text(HEAD + "\n".join(lines) + "\n")
