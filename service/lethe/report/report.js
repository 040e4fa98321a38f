// Draws the report's figures, and again when the theme or the medium changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  const draw = () => {
    for (const [id, figure] of Object.entries(figures)) drawFigure(id, figure);
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
