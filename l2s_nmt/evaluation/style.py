"""The style sheet of the comparison page: system fonts, light and dark by the reader's setting."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --text: #1d2129; --soft: #5b6472; --line: #dfe2e7;
  --good: #0b6b3a; --good-back: #dff3e6; --bad: #a3212a; --bad-back: #fde5e4; --even-back: #eceef1;
  --s0: #2457c5; --s1: #c2410c; --s2: #0f766e; --s3: #a21caf; --s4: #4d7c0f; --s5: #596475;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1d2026; --text: #e8eaee; --soft: #a3acba; --line: #343a44;
    --good: #7fdca4; --good-back: #173524; --bad: #ff9d98; --bad-back: #452022; --even-back: #2b3038;
    --s0: #7aa7ff; --s1: #fb923c; --s2: #2dd4bf; --s3: #e879f9; --s4: #a3e635; --s5: #a8b3c4;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 3rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: 0; }
h2 { font-size: 1.15rem; line-height: 1.35; margin: 0 0 .75rem; }
.lead { color: var(--soft); font-size: 1.05rem; margin: .35rem 0 1.5rem; }
.note, figcaption, footer { color: var(--soft); font-size: .9rem; }
section { margin-top: 2.75rem; }
ul, ol { list-style: none; margin: 0; padding: 0; }
small { color: var(--soft); font-size: .82em; font-weight: 400; }
.key { width: 1em; height: 1em; margin-right: .4em; vertical-align: -.12em; flex: none; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.15rem;
}
.card h2 { font-size: 1rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.score { font-size: 2.4rem; font-weight: 700; line-height: 1.15; letter-spacing: -.02em; margin: .35rem 0; }
.score span { color: var(--soft); font-size: 1rem; font-weight: 400; letter-spacing: 0; }
.change { color: var(--soft); margin: 0; }
.change span { white-space: nowrap; }
.change.better { color: var(--good); } .change.worse { color: var(--bad); }
.scroll { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; overflow-x: auto; }
.scroll:focus-visible, summary:focus-visible { outline: 3px solid var(--s0); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
caption { color: var(--soft); font-size: .9rem; padding: .8rem 1.15rem .2rem; text-align: left; }
th, td { padding: .6rem 1.15rem; text-align: right; white-space: nowrap; }
th[scope=col] {
  border-bottom: 1px solid var(--line); color: var(--soft); font-size: .85rem; font-weight: 500;
}
th:first-child {
  font-weight: 600; max-width: 22rem; min-width: 12rem;
  overflow-wrap: anywhere; text-align: left; white-space: normal;
}
tbody + tbody > tr:first-child > * { border-top: 1px solid var(--line); }
th[scope=rowgroup] { vertical-align: top; }
tbody tr + tr > * { padding-top: 0; }
td small { display: block; }
.interval { width: 8.25rem; height: 1rem; margin-right: .9rem; vertical-align: -.15rem; }
.verdict { border-radius: 1rem; background: var(--even-back); font-size: .9rem; padding: .15rem .65rem; }
.verdict.better { background: var(--good-back); color: var(--good); }
.verdict.worse { background: var(--bad-back); color: var(--bad); }
.keys { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin-bottom: .75rem; }
.axis { border: 0; display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0; padding: 0; }
.axis figure { display: none; flex-basis: 100%; order: 1; }
.axis legend { color: var(--soft); float: left; font-size: .9rem; margin-right: 1rem; padding: 0; }
.axis label { cursor: pointer; margin-bottom: .5rem; }
.axis input:checked + label { font-weight: 600; }
.axis input:focus-visible + label { outline: 3px solid var(--s0); outline-offset: 2px; }
#by-minutes:checked ~ .of-minutes, #by-updates:checked ~ .of-updates, #by-sentences:checked ~ .of-sentences {
  display: block;
}
figure {
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem; margin: 0; padding: .9rem;
}
figcaption { text-align: center; }
.curves { display: block; width: 100%; height: auto; font-size: 13px; }
.axes text { fill: var(--soft); }
.grid, .base, .tick { stroke: var(--line); } .base, .tick { stroke: var(--soft); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.marker { fill: currentColor; stroke: var(--card); } .band { fill: currentColor; opacity: .12; }
.series-0 { color: var(--s0); } .series-1 { color: var(--s1); } .series-2 { color: var(--s2); }
.series-3 { color: var(--s3); } .series-4 { color: var(--s4); } .series-5 { color: var(--s5); }
details { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; margin-top: 1rem; }
summary { cursor: pointer; font-weight: 600; padding: .75rem 1.15rem; }
details li { border-top: 1px solid var(--line); padding: .9rem 1.15rem; }
.which { color: var(--soft); font-size: .9rem; margin: 0 0 .35rem; } .which b { color: var(--text); }
dl { margin: 0; }
details dl > div { display: grid; gap: 0 1rem; grid-template-columns: 11rem 1fr; padding: .12rem 0; }
dt { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
.source dd, .reference dd { color: var(--soft); }
ins { background: var(--good-back); color: var(--good); border-radius: .2rem; padding: 0 .2rem; }
del { background: var(--bad-back); color: var(--bad); border-radius: .2rem; padding: 0 .2rem; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 1.5rem; }
footer h2 { color: var(--text); font-size: 1rem; margin-bottom: .25rem; }
.signatures { display: grid; gap: .2rem 1rem; grid-template-columns: auto 1fr; }
code { font-size: .85rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { details dl > div { grid-template-columns: 1fr; padding: .25rem 0; } }
@media print {
  body { background: none; max-width: none; }
  .axis figure { display: block; }
  .card, .scroll, figure, details { break-inside: avoid; }
}
"""
