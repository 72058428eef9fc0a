"""The frame of an HTML page: one file, no scripts, nothing loaded from anywhere, every text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_ct_mask_net import RESEARCH_NOTICE

# Browsers may show what is in the page and nothing else, whatever a text in it should contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
# Two pictures side by side at most: what is written into them must stay readable.
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--paper:#fff;--band:#f6f8fa;
--urgent:#b3261e;--raised:#9a6700;--routine:#1a7f37}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4ae;--line:#30363d;--paper:#0d1117;
--band:#161b22;--urgent:#ff8a80;--raised:#e3b341;--routine:#56d364}}
*{box-sizing:border-box}body{margin:0 auto;max-width:68rem;padding:1rem;color:var(--ink);
background:var(--paper);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.notice{border:2px solid var(--urgent);color:var(--urgent);padding:.5rem .75rem;font-weight:600}
.answer{font-size:1.3rem;font-weight:600;margin:.25rem 0}.soft{color:var(--soft)}
.urgent{color:var(--urgent)}.raised{color:var(--raised)}.routine{color:var(--routine)}
.scroll{overflow-x:auto}table{border-collapse:collapse;min-width:100%}
th,td{border-bottom:1px solid var(--line);padding:.35rem .6rem;text-align:left;vertical-align:top}
th{background:var(--band);font-weight:600;white-space:nowrap}.n{text-align:right}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}td:has(.bar){vertical-align:middle}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0;max-width:44rem}img,svg{max-width:100%;height:auto;display:block}figcaption{color:var(--soft);font-size:.9rem}
.bar{display:block;height:.6rem;background:#3b82c4;border-radius:2px;min-width:1px}
code{overflow-wrap:anywhere}a{color:inherit}td:first-child{min-width:6rem}
@media(max-width:40rem){body{padding:.6rem}th,td{padding:.3rem .35rem;font-size:.85rem}
td:first-child{min-width:0}th{white-space:normal}.scroll svg{min-width:34rem}}
"""


def page(title: str, body: str, notices: Sequence[str] = ()) -> str:
    """Return an HTML document.

    Parameters
    ----------
    title : str
        Text; escaped here.
    body : str
        HTML whose texts are escaped already.
    notices : sequence of str
        What must not be overlooked, beside the research-only notice.
    """
    boxed = "<br>".join(escape(notice) for notice in (RESEARCH_NOTICE, *notices))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">\n'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="notice">{boxed}</p>\n{body}\n</body></html>\n'
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of texts; columns in ``numbers`` are set flush right, headings too."""
    head = "".join(
        f'<th scope="col"{" class=n" if column in numbers else ""}>{escape(heading)}</th>'
        for column, heading in enumerate(headings)
    )
    lines = [
        "<tr>"
        + "".join(
            f"<td{' class=n' if column in numbers else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    lines = [f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs]
    return '<div class="scroll"><table><tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>"


def items(texts: Sequence[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def figure(picture: NDArray[np.uint8], description: str) -> str:
    """Return a picture, RGB uint8 (height, width, 3), inside the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=6)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = escape(description)
    return (
        f'<figure><img alt="{text}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
        f'src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
    )
