"""Plots as SVG, without any library: groups of bars that are read in a light and a dark page."""

import html
import math

WIDTH, LEFT, TOP, ROW, BAR = 760, 230, 44, 40, 13
COLOURS = ["#2f6fbf", "#d9822b"]


def step(most):
    """A round distance between lines, of which there are four to ten."""
    rough = most / 6
    power = 10 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def axis(known, low, log):
    """The values at which there are lines: equal distances, or powers of ten."""
    most = max(known, default=low + 1)
    if log:
        first = min(0, math.floor(math.log10(min(known, default=1))))
        return [10.0**k for k in range(first, max(math.ceil(math.log10(most)), first + 1) + 1)]
    apart = step(max(most - low, 1e-9))
    return [low + k * apart for k in range(math.ceil((most - low) / apart - 1e-9) + 1)]


def bars(title, groups, series, low=0.0, log=False):
    """Horizontal bars: `series` has for each name a value for each of `groups`, None where there is none. They begin at `low`; with
    `log` at the power of ten below all of them, and no higher than 1. The ground is drawn too, so that text is read on any page."""
    known = [value for values in series.values() for value in values if value is not None]
    lines = axis(known, low, log)
    along = math.log10 if log else float
    right = WIDTH - 60
    place = lambda value: LEFT + (right - LEFT) * (along(value) - along(lines[0])) / (along(lines[-1]) - along(lines[0]))
    height = TOP + 22 + ROW * len(groups) + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{html.escape(title)}</title>",
        "<style>text{fill:#222}line{stroke:#ccc}.ground{fill:#fff}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}line{stroke:#444}.ground{fill:#161b22}}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text x="8" y="20" font-size="15" font-weight="bold">{html.escape(title)}</text>',
    ]
    x = LEFT
    for colour, name in zip(COLOURS, series):
        out.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 17}" y="40">{html.escape(name)}</text>')
        x += 40 + 8 * len(name)
    first = TOP + 14
    for value in lines:
        at = f"{place(value):.1f}"
        out.append(f'<line x1="{at}" x2="{at}" y1="{first}" y2="{height - 24}"/>')
        out.append(f'<text x="{at}" y="{height - 8}" text-anchor="middle">{value:g}</text>')
    for row, group in enumerate(groups):
        y = first + 8 + row * ROW
        out.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{html.escape(group)}</text>')
        for k, (colour, values) in enumerate(zip(COLOURS, series.values())):
            value = values[row]
            if value is None:
                continue
            at, end = y + k * (BAR + 1), max(place(value), LEFT + 1)
            out.append(f'<rect x="{LEFT}" y="{at}" width="{end - LEFT:.1f}" height="{BAR}" fill="{colour}"/>')
            out.append(f'<text x="{end + 4:.1f}" y="{at + 11}">{value:.4g}</text>')
    return "\n".join([*out, "</svg>", ""])
