// Sortable tables: a click on a heading sorts by it, a second click the other way round.
const number = (words) => Number(words.replaceAll(",", "").replace(/ %$/, ""));
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), table = heading.closest("table"), body = table.tBodies[0];
    const column = heading.cellIndex, down = heading.getAttribute("aria-sort") === "ascending";
    const compare = (a, b) => {
      const [s, t] = [a, b].map((row) => row.cells[column].textContent);
      if (s === "" || t === "") return (s === "") - (t === "");  // empty cells stay at the end
      const order = isNaN(number(s)) || isNaN(number(t)) ? s.localeCompare(t) : number(s) - number(t);
      return down ? -order : order;
    };
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort(compare));
  });
}
