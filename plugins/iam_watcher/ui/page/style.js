// The page's own layout. Colours are Airflow's theme, as variables: light, dark and its palettes come with them.
const color = (name) => `var(--chakra-colors-${name})`;

const states = ["success", "failed", "skipped", "running", "queued"]
  .map((state) => `.iw .${state}{--iw:${color(`${state}-solid`)};--iw-soft:${color(`${state}-muted`)}}`)
  .join("\n");

// A surface that is a little darker than what it lies on, or lighter in the dark.
const soft = (share) => `color-mix(in srgb,${color("fg")} ${share}%,transparent)`;

export const css = `
.iw{font-variant-numeric:tabular-nums;line-height:1.45;font-size:14px;color:${color("fg")};padding:16px 16px 40px;height:100%;overflow-y:auto}
.iw td>*,.iw .grid>*,.iw .run .head>*{min-width:0}
.iw .success,.iw .none{--iw:${color("success-solid")}}
${states}
.iw .dry,.iw .elsewhere{--iw:${color("success-solid")}}
.iw .broken{--iw:${color("failed-solid")}}
.iw .none{--iw:${color("border-emphasized")}}
.iw .warn{--iw:${color("orange-solid")}}
.iw h1{font-size:24px;font-weight:700;line-height:1.3}
.iw h2{font-size:13px;font-weight:600;color:${color("fg-muted")}}
.iw small,.iw .small{display:block;font-size:12.5px;color:${color("fg-muted")}}
.iw a,.iw .link{color:${color("fg-info")};text-decoration:none;cursor:pointer;background:none;border:0;padding:0;font:inherit}
.iw a:hover,.iw .link:hover{text-decoration:underline}
.iw :focus-visible{outline:2px solid ${color("brand-solid")};outline-offset:2px;border-radius:4px}
.iw strong{font-weight:600}
.iw code{font:12.5px ui-monospace,monospace;background:${soft(7)};border-radius:4px;padding:1px 5px;overflow-wrap:anywhere}
.iw .lead{display:flex;gap:12px;justify-content:space-between;flex-wrap:wrap;color:${color("fg-muted")};margin:2px 0 14px}
.iw .lead strong{color:${color("fg")}}
.iw .note{display:flex;gap:4px 16px;flex-wrap:wrap;align-items:baseline;border:1px solid ${color("border")};border-inline-start:4px solid var(--iw);border-radius:8px;background:${soft(2.5)};padding:8px 12px;margin-bottom:6px;overflow-wrap:anywhere}
.iw .note>span{flex:0 1 auto}
.iw .attention{margin-bottom:16px}.iw .attention h2{margin-bottom:6px}
.iw .tools{display:flex;gap:8px;align-items:center;flex-wrap:wrap;margin-bottom:8px}
.iw .tools>.search{width:250px}
.iw .chips{display:flex;gap:6px;flex-wrap:wrap}
.iw .chip{border:0;border-radius:999px;padding:4px 11px;font-size:13px;line-height:1.35;background:${soft(7)};color:${color("fg")};cursor:pointer;white-space:nowrap}
.iw .chip:hover{background:${soft(12)}}
.iw .chip[aria-pressed=true]{background:${color("brand-solid")};color:${color("brand-contrast")}}
.iw .sort{margin-inline-start:auto;color:${color("fg-muted")};font-size:13px;white-space:nowrap}
.iw .sort select{background:transparent;color:${color("fg")};border:0;font:inherit;padding:4px;cursor:pointer}
.iw .sort option{color:${color("fg")};background:${color("bg")}}
.iw table{width:100%;border-collapse:collapse}
.iw th{font-size:12px;font-weight:600;text-align:start;color:${color("fg-muted")};border-bottom:1px solid ${color("border-emphasized")};padding:8px 10px;white-space:nowrap}
.iw td{border-bottom:1px solid ${color("border")};padding:10px;vertical-align:top;overflow-wrap:anywhere}
.iw tbody tr:hover{background:${soft(2.5)}}
.iw td.who{width:25%}.iw td.what{width:34%}.iw td.when,.iw td.lock{white-space:nowrap;overflow-wrap:normal}
.iw td.lock{max-width:210px}.iw td.lock>*{overflow:hidden;text-overflow:ellipsis}
.iw tr.paused td.who,.iw tr.paused td.what,.iw tr.paused td.bars,.iw tr.paused td.when,.iw tr.paused td.lock{color:${color("fg-muted")}}
.iw .name{display:flex;gap:10px;align-items:baseline}
.iw .name a{font-weight:600;color:${color("fg-info")};overflow-wrap:anywhere}
.iw .name+small{margin-inline-start:19px}
.iw .tag{border:0;font-size:11.5px;line-height:1.5;color:${color("fg-muted")};background:${soft(7)};border-radius:5px;padding:0 7px;cursor:pointer;white-space:nowrap;max-width:140px;overflow:hidden;text-overflow:ellipsis}
.iw .dot{display:inline-block;flex:none;width:9px;height:9px;border-radius:50%;background:var(--iw)}
.iw .dot.none{background:none;border:2px solid ${color("border-emphasized")}}
.iw .dot.broken{border-radius:1px}
.iw .dot.running{box-shadow:0 0 0 4px var(--iw-soft)}
.iw .free{color:${color("fg-muted")}}
.iw .clip{overflow:hidden;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:3}
.iw .barrow{display:flex;align-items:flex-end;justify-content:flex-end;gap:2px;width:208px;height:28px}
.iw .barrow span{display:flex;align-items:flex-end;align-self:stretch;width:5px;flex:none}
.iw .barrow i{display:block;width:100%;border-radius:1px;background:var(--iw)}
.iw .barrow i.dry,.iw .barrow i.elsewhere{opacity:.45}
.iw .progress{height:5px;border-radius:3px;background:${soft(10)};overflow:hidden;margin-top:7px}
.iw .progress i{display:block;height:100%;border-radius:3px;background:${color("running-solid")};transition:width .8s linear}
.iw td.do{white-space:nowrap;text-align:end;width:1%}
.iw .do>div{display:inline-flex;gap:6px;align-items:center}
.iw .foot{margin-top:12px}
.iw .key{display:inline-block;width:8px;height:8px;border-radius:2px;background:var(--iw);margin:0 4px 0 12px}
.iw .grid{display:grid;grid-template-columns:minmax(300px,360px) 1fr;gap:16px;align-items:start}
.iw .card{border:1px solid ${color("border")};border-radius:10px;padding:14px 16px;margin-bottom:14px;background:${color("bg")}}
.iw .card h2{display:flex;justify-content:space-between;gap:8px;align-items:center;color:${color("fg")};font-size:14px;margin-bottom:6px}
.iw .card h2:not(:first-child){margin-top:14px}
.iw .card h2 .link{font-weight:400;font-size:13px}
.iw dl{display:grid;grid-template-columns:auto 1fr;gap:4px 14px;margin:6px 0}
.iw dt{color:${color("fg-muted")}}.iw dd{margin:0;overflow-wrap:anywhere}
.iw ol.ticks{list-style:none;margin:8px 0;padding:0}
.iw ol.ticks li{display:flex;justify-content:space-between;gap:8px;padding:1px 0}
.iw ol.ticks li span:last-child{color:${color("fg-muted")};font-size:12.5px}
.iw ol.ticks li.change{color:${color("queued-fg")}}
.iw ol.ticks li.change span:last-child{color:inherit}
.iw .run{border:1px solid ${color("border")};border-radius:10px;margin-bottom:8px;background:${color("bg")};overflow:hidden}
.iw .run>.head{display:flex;gap:12px;align-items:baseline;padding:10px 14px;width:100%;text-align:start;background:none;border:0;font:inherit;color:inherit;cursor:pointer}
.iw .run>.head:hover{background:${soft(2.5)}}
.iw .run time{color:${color("fg-muted")};width:136px;flex:none;white-space:nowrap}
.iw .run .by{margin-inline-start:auto;color:${color("fg-muted")};font-size:12.5px;white-space:nowrap}
.iw .run .body{border-top:1px solid ${color("border")};padding:12px 14px;background:${soft(2.5)}}
.iw .nums{display:flex;gap:8px 28px;flex-wrap:wrap;margin-bottom:10px}
.iw .nums b{display:block;font-size:20px;line-height:1.25;color:${color("fg")}}
.iw .nums div{color:${color("fg-muted")};font-size:12.5px}
.iw .steps{display:flex;gap:8px;flex-wrap:wrap;margin-top:12px;align-items:center}
.iw .people{margin:4px 0;padding:0;list-style:none;columns:3 220px}
.iw .people li{break-inside:avoid}
.iw .hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.iw-form{display:flex;flex-direction:column;gap:14px}
.iw-form .check{display:inline-flex;align-items:center;gap:8px}
.iw-form .field>label{font-weight:500;display:block;margin-bottom:3px}
.iw-form small{display:block;color:${color("fg-muted")};font-size:12.5px;margin-top:3px}
.iw-form .error{color:${color("fg-error")}}
@media(max-width:1100px){.iw .barrow{width:138px}.iw .barrow span:nth-last-child(n+21){display:none}}
@media(max-width:820px){
.iw table,.iw tbody,.iw tr,.iw td{display:block}.iw thead{position:absolute;clip-path:inset(50%)}
.iw tr{border:1px solid ${color("border")};border-radius:10px;margin-bottom:10px;padding:8px 6px}
.iw td,.iw td.who,.iw td.what,.iw td.do{border:0;padding:4px 8px;width:auto;text-align:start;max-width:none;white-space:normal}
.iw td.when,.iw td.lock{display:flex;gap:8px;align-items:baseline}
.iw td[data-label]:before{content:attr(data-label);color:${color("fg-muted")};font-size:12.5px;flex:none;width:44px}
.iw .barrow{width:auto;justify-content:flex-start}.iw .barrow span:nth-last-child(n+21){display:flex}
.iw .sort{margin-inline-start:0}.iw .grid{grid-template-columns:1fr}
.iw .run>.head{flex-wrap:wrap}.iw .run time{width:auto}.iw .run .by{margin-inline-start:0;width:100%}
.iw .tools>.search{width:100%}
}
@media(prefers-reduced-motion:reduce){.iw .progress i{transition:none}}
`;
