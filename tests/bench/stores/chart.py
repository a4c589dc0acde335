"""Bar charts as SVG, small enough to be read in a diff."""
import math
import textwrap
from html import escape

WIDTH, LEFT, RIGHT, ROW, HEAD = 860, 250, 90, 17, 26
OURS, OTHERS = "#2a6f97", "#b8bec5"


def number(v):
    if v >= 1000:
        return f"{v:,.0f}"
    return f"{v:.0f}" if v >= 100 else f"{v:.3g}"


def bars(path, title, subtitle, groups):
    """groups: (heading, [(label, value or None, is ours)]). One logarithmic axis for all; in each group the longest bar comes first."""
    values = [v for _, rows in groups for _, v, _ in rows if v]
    low, high = min(values) / 2, max(values)
    out, y = [], 60

    def length(v):
        return max(1.0, math.log(v / low) / math.log(high / low) * (WIDTH - LEFT - RIGHT))

    for heading, rows in groups:
        y += HEAD
        out.append(f'<text x="10" y="{y - 8}" font-weight="bold">{escape(heading)}</text>')
        for label, value, ours in sorted(rows, key=lambda r: -(r[1] or 0)):
            shown = number(value) if value else "cannot"
            out.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>')
            if value:
                out.append(f'<rect x="{LEFT}" y="{y + 2}" width="{length(value):.1f}" height="{ROW - 4}" fill="{OURS if ours else OTHERS}"/>')
            at = LEFT + (length(value) if value else 0) + 5
            out.append(f'<text x="{at:.1f}" y="{y + 12}">{shown}</text>')
            y += ROW
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 12}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="10" y="22" font-size="16" font-weight="bold">{escape(title)}</text>\n'
            + "\n".join(f'<text x="10" y="{36 + 13 * i}" font-size="10" fill="#555">{escape(line)}</text>'
                        for i, line in enumerate(textwrap.wrap(subtitle + "; logarithmic", 140))))
    with open(path, "w") as f:
        f.write("\n".join([head, *out, "</svg>"]) + "\n")
