"""The table of how long links take from the acceptance on. Used by bench-tables.py."""

WHO = {
    "caller/bare": "the caller, when it hears of the acceptance: the bare engine",
    "caller/ours": "the same: ours",
    "ahead/ours": "the caller, while it rings; it names no address before: ours",
    "callee/ours": "the callee, together with the acceptance: ours",
}


def accepted(times, table):
    """Until each side hears the other one, in microseconds by side, delay and who offers."""
    rows = []
    for name, text in WHO.items():
        row = [text]
        for side in ["caller", "callee"]:
            row += [f"{times[f'{side}/{delay}/{name}'] / 1e3:,.0f} ms" for delay in [50, 100]]
            row.append(f"{times[f'{side}/100/{name}'] / 200e3:.1f}")
        rows.append(row)
    hears = lambda side: [f"the {side} hears: 50 ms", "100 ms", "round trips of that"]
    return table(["who offers", *hears("caller"), *hears("callee")], rows)
