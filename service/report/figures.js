// Draws the figures in the reader's theme, and again when the theme or the medium changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  // "--name" stands for the value of that custom property in the style sheet
  const themed = (value, style) => {
    if (typeof value === "string" && value.startsWith("--")) return style.getPropertyValue(value).trim();
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    return value;
  };

  const axis = { gridcolor: "--grid", zerolinecolor: "--soft", zeroline: false, fixedrange: true, automargin: true,
    ticklabelstandoff: 5,
    title: { font: { size: 12, color: "--soft" }, standoff: 8 }, tickfont: { size: 12, color: "--soft" } };
  const layout = (own) => ({
    ...own,
    autosize: true,
    showlegend: false,
    dragmode: false,
    hovermode: "closest",
    margin: { l: 8, r: 16, t: 28, b: 8, ...own.margin },
    paper_bgcolor: "--clear",
    plot_bgcolor: "--clear",
    font: { family: getComputedStyle(document.body).fontFamily, color: "--ink", size: 13 },
    hoverlabel: { bgcolor: "--paper", bordercolor: "--soft", font: { color: "--ink" } },
    xaxis: { ...axis, ...own.xaxis, title: { ...axis.title, ...own.xaxis.title } },
    yaxis: { ...axis, ...own.yaxis },
  });

  const draw = () => {
    const style = getComputedStyle(root);
    for (const [id, figure] of Object.entries(figures))
      Plotly.react(id, themed(figure.data, style), themed(layout(figure.layout), style),
        { displayModeBar: false, responsive: true });
  };

  const print = (printing) => {
    root.classList.toggle("print", printing);
    draw();
    for (const id of Object.keys(figures)) Plotly.Plots.resize(id);
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
