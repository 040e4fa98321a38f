// drawFigure(place, figure): draws one of the service's figures in the reader's theme, on the report and the live page.
const drawFigure = (() => {
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

  // on a narrow screen, a label that would overlap an earlier one is hidden
  const APART = 3;
  const untangle = (place) => {
    const shown = [];
    for (const label of place.querySelectorAll(".annotation")) {
      const box = label.querySelector("text").getBoundingClientRect();
      const overlaps = shown.some((other) => box.left < other.right + APART && other.left < box.right + APART
        && box.top < other.bottom && other.top < box.bottom);
      label.style.visibility = overlaps ? "hidden" : "";
      if (!overlaps) shown.push(box);
    }
  };

  return (place, figure) => {
    const style = getComputedStyle(document.documentElement);
    Plotly.react(place, themed(figure.data, style), themed(layout(figure.layout), style),
      { displayModeBar: false, responsive: true }).then((drawn) => {
      untangle(drawn);
      drawn.removeAllListeners("plotly_afterplot");
      drawn.on("plotly_afterplot", () => untangle(drawn)); // after a change of its size
    });
  };
})();
