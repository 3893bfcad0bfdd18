"""The tables of docs/benchmarks.md about many people and many contacts (tests/scale)."""

# What the issue of each goal names, and where it is measured.
CORE = 1_000_000
CALL_KB = 40 * 1024
MOST_TALKERS = 15
CONTACTS = 100


def core(ppm):
    percent = ppm / 1e4
    digits = 1 if percent >= 10 else 2 if percent >= 1 else 3
    return f"{percent:.{digits}f} %"


def megabytes(kb):
    return f"{kb / 1024:.1f} MB"


def memory(of, prefix=""):
    """Resident, the same with shared pages in parts, and of it heap and stacks."""
    return " / ".join(f"{of(f'{prefix}{name}_kb') / 1024:.1f}" for name in ["rss", "pss", "heap"])


MEMORY = "memory, MB"


def a_second(milli):
    per_second = milli / 1e3
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.2g}"


def numbers(figure, kind):
    """Which numbers of people there are figures for, in order."""
    return sorted({int(name.split("/")[1]) for name in figure if name.startswith(kind + "/")})


def scale(counts, table):
    figure = counts["scale"]

    def goals():
        rows = []
        for name, text in [("plain", "without voice processing"), ("processed", "with all voice processing")]:
            ppm = figure[f"talkers/{MOST_TALKERS}/{name}_cpu_ppm"]
            reached = "yes" if ppm <= CORE else "**no**"
            rows.append([f"a whole node in a call of {MOST_TALKERS + 1}, {text}", "one core", f"{ppm / CORE:.2f} cores", reached])
        for kind, text in [("not_kept", "as it is if nobody asks for more"), ("contacts", "all of them online and kept connected")]:
            kb = figure[f"{kind}/{CONTACTS}/call/rss_kb"]
            reached = "yes" if kb < CALL_KB else "**no**"
            what = f"memory with {CONTACTS} contacts and one call, {text}"
            rows.append([what, f"below {megabytes(CALL_KB)}", megabytes(kb), reached])
        return table(["what", "goal", "measured", "reached"], rows)

    def groups():
        rows = []
        for n in numbers(figure, "group"):
            of = lambda name: figure[f"group/{n}/{name}"]
            rows.append(
                [
                    str(n),
                    core(of("cpu_ppm")),
                    core(of("cpu_most_ppm")),
                    memory(of),
                    f"{of('signals'):,}",
                    f"{of('signals_again'):,}",
                    f"{of('gossip_messages'):,}",
                    f"{of('gossip_bytes') / 1024:,.0f}",
                    f"{of('link_messages'):,}",
                    f"{of('link_bytes') / 1024:,.0f}",
                    f"{of('joined_us') / 1e3:,.0f}",
                    f"{of('heard_us') / 1e3:,.0f}",
                ]
            )
        head = ["nodes", "of a core, each", "the busiest", MEMORY, "signals", "sent again", "messages on gossip", "kB", "over links", "kB"]
        return table([*head, "all joined, ms", "all hear all, ms"], rows)

    def talkers():
        rows = []
        for n in numbers(figure, "talkers"):
            of = lambda name: figure[f"talkers/{n}/{name}"]
            rows.append(
                [
                    str(n),
                    core(of("plain_cpu_ppm")),
                    core(of("processed_cpu_ppm")),
                    core(of("plain_cpu_ppm") // n),
                    f"{max(of('plain_concealed_ppm'), of('processed_concealed_ppm')) / 1e4:.2f} %",
                    memory(of),
                    f"{of('threads'):,}",
                    f"{of('sockets'):,}",
                ]
            )
        head = ["who talk to it", "of a core", "with processing", "without, by talker", "made up", MEMORY, "threads", "sockets"]
        return table(head, rows)

    def contacts():
        rows = []
        for n in numbers(figure, "not_kept"):
            of = lambda name: figure[f"not_kept/{n}/{name}"]
            rows.append([f"{n:,}, not kept", "", *[""] * 5, memory(of), memory(of, "call/")])
        for n in numbers(figure, "contacts"):
            of = lambda name: figure[f"contacts/{n}/{name}"]
            rows.append(
                [
                    f"{n:,}",
                    f"{of('online'):,}",
                    core(of("cpu_ppm")),
                    *(a_second(of(f"{way}_{what}_milli")) for way in ["in", "out"] for what in ["messages", "bytes"]),
                    memory(of),
                    memory(of, "call/"),
                ]
            )
        head = ["contacts", "online", "of a core", "messages in a second", "bytes", "messages out", "bytes", MEMORY]
        return table([*head, "with one call"], rows)

    def alone():
        of = lambda name: figure[f"alone/{name}"]
        rows = [["processor", core(of("cpu_ppm")) + " of a core"]]
        rows.append(["times that a thread is woken up", f"{a_second(of('wakeups_milli'))} a second"])
        rows.append([MEMORY, memory(of)])
        rows += [[text, f"{of(name):,}"] for name, text in [("threads", "threads"), ("sockets", "sockets"), ("tasks", "tasks")]]
        return table(["a node that knows nobody", "takes"], rows)

    plot = "![What a whole node takes of a core, by how many talk to it](benchmarks/scale.svg)"
    return {
        "scale_goals": goals(),
        "scale_groups": groups(),
        "scale_talkers": talkers(),
        "scale_plot": plot,
        "scale_contacts": contacts(),
        "scale_alone": alone(),
    }


def how(counts):
    """How it was measured, for the line about the machine."""
    figure = counts["scale"]
    build = "in release" if figure["optimised"] else "in the profile of the tests, which optimises less"
    others = f"other work took {core(figure['others_ppm'])} of a core at most"
    return f"{build}; {others}"
