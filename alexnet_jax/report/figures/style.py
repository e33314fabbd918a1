"""Style sheet of the pages: desk and phone screens, light and dark themes, and paper."""

COLORS = """
:root{color-scheme:light dark;--ink:#1f2328;--muted:#59636e;--faint:#d1d9e0;--paper:#fff;
--panel:#f6f8fa;--accent:#0550ae;--bar:#b6d4fe;--right:#116329;--wrong:#b31d28}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e6edf3;--muted:#9da7b3;--faint:#3d444d;
--paper:#0d1117;--panel:#161b22;--accent:#79b8ff;--bar:#1f4b82;--right:#56d364;--wrong:#ff8a84}}
"""

SCREEN = """
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem 1rem 4rem;max-width:74rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0}
h2{font-size:1.25rem;margin:2.6rem 0 .6rem;border-bottom:1px solid var(--faint);padding-bottom:.2rem}
h3{font-size:1rem;margin:1.4rem 0 .3rem}
p,ul{max-width:50rem}
a{color:var(--accent)}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;max-width:none}
.muted,figcaption{color:var(--muted);font-size:.87rem}
.big{font-size:1.15rem;max-width:none}
figure{margin:.6rem 0 1rem}
figure>img{width:100%;max-width:36rem;height:auto;display:block}
.pair{display:grid;gap:0 2rem;grid-template-columns:repeat(2,minmax(0,1fr))}
.three{grid-template-columns:repeat(3,minmax(0,1fr))}
.pair>:only-child{grid-column:1/-1}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(4,minmax(0,1fr));list-style:none;
padding:0;max-width:none}
.card{background:var(--panel);border-radius:.5rem;padding:.6rem;margin:0}
.card img{width:100%;height:auto;display:block}
.card strong{display:block;margin:.3rem 0}
.bars{list-style:none;margin:0;padding:0;font-size:.87rem}
.bars li{position:relative;padding:.05rem .35rem;margin:2px 0;z-index:0;display:flex;
justify-content:space-between;gap:.5rem}
.bars i{position:absolute;z-index:-1;left:0;top:0;bottom:0;background:var(--bar);border-radius:2px}
.bars span:last-child{flex:none}
.right{color:var(--right)}
.wrong{color:var(--wrong)}
.strip{display:grid;grid-template-columns:repeat(7,minmax(0,1fr));gap:.6rem;list-style:none;
padding:.6rem;margin:.8rem 0;background:var(--panel);border-radius:.5rem;max-width:none}
.strip li{font-size:.8rem;line-height:1.3}
.strip img{width:100%;height:auto;display:block}
.strip li:first-child{position:relative}
.strip li:first-child::after{content:"";position:absolute;top:0;bottom:0;right:-.35rem;
border-right:2px solid var(--muted)}
.unit{background:var(--panel);border-radius:.5rem;padding:.6rem;max-width:44rem}
.unit>div{display:grid;gap:.6rem;grid-template-columns:repeat(2,minmax(0,1fr))}
.unit img{width:100%;height:100%;object-fit:contain;display:block}
.unit ul{display:grid;gap:.2rem;grid-template-columns:repeat(3,minmax(0,1fr));list-style:none;
margin:0;padding:0}
.unit li{aspect-ratio:1;min-height:0}
.unit figcaption{margin-top:.4rem}
.listed{columns:3;gap:2rem;padding-left:1.2rem;max-width:none;font-size:.87rem}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.87rem}
.pair table{width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .9rem .25rem 0;
border-bottom:1px solid var(--faint);max-width:26rem;overflow-wrap:break-word}
.long{overflow-wrap:anywhere}
th{font-weight:600}
.number{text-align:right;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--muted);padding-bottom:.3rem}
pre{background:var(--panel);border-radius:.5rem;padding:.7rem;white-space:pre-wrap;font-size:.82rem}
details{margin:.8rem 0}
summary{cursor:pointer}
"""

# A page of paper is as narrow as a small screen: these rules are of screens alone.
PHONE = """
@media screen and (max-width:64rem){.three{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media screen and (max-width:48rem){
.pair{grid-template-columns:minmax(0,1fr)}
.listed{columns:1}
.cards{grid-template-columns:repeat(2,minmax(0,1fr));gap:.6rem}
.strip{grid-template-columns:repeat(4,minmax(0,1fr))}
.strip li:first-child{grid-row:span 2}
th,td{padding-right:.6rem}
.wide thead{display:none}
.wide tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--faint)}
.wide td{display:flex;gap:1rem;justify-content:space-between;border:0;padding:.1rem 0;
text-align:right;max-width:none}
.wide,.wide tbody,.wide caption{display:block}
.wide td::before{content:attr(data-name);color:var(--muted);text-align:left}
.wide td:empty{display:none}
}
"""

# A4 and Letter: the printer sets the size of the paper. Figures, images and rows are not divided.
PRINT = """
@media print{
@page{margin:14mm 13mm}
:root{color-scheme:light}
html{font-size:9.5pt}
body{max-width:none;padding:0;print-color-adjust:exact;-webkit-print-color-adjust:exact}
nav,.files,details:not([open]){display:none}
a{color:inherit;text-decoration:none}
h2{margin-top:1.6rem}
h1,h2,h3,caption,h2+p,h3+p{break-after:avoid}
p,figure,tr,.card,.strip,.unit,.listed li{break-inside:avoid}
p,ul{max-width:none}
thead{display:table-header-group}
.scroll{overflow:visible}
.pair{gap:0 1.2rem}
.listed{columns:2}
table{font-size:.8rem}
th,td{padding:.15rem .4rem .15rem 0;max-width:none}
.wide{font-size:.75rem}
.wide td{overflow-wrap:anywhere}
.cards{gap:.5rem;font-size:.85rem}
.card img{max-width:8rem;margin:0 auto}
.strip{margin:.4rem 0;padding:.4rem}
.strip img{max-width:5rem}
.unit{padding:.4rem}
pre{border:1px solid var(--faint)}
}
"""

STYLE = COLORS + SCREEN + PHONE + PRINT
