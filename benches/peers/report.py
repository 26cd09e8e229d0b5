"""What the rounds say: medians, ratios of neighbours, and a table."""

import statistics

# The key of a speed, and its title.
SPEEDS = [("prompt_tok_s", "prompt tok/s"), ("decode_tok_s", "decode tok/s")]
# The share of the CPU that others may take during a run before it counts as disturbed.
DISTURBED = 0.05
LIMITS = ["read_gb_s", "int8_gops", "prompt_fraction", "decode_fraction"]


def summary(rounds, arguments):
    """`rounds` maps a program's name to its results; halfbyte is the first."""
    ours = rounds["halfbyte"]
    return {
        "model": str(arguments.model),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "prompt_tokens": arguments.prompt_tokens,
        "new_tokens": arguments.new_tokens,
        "programs": [program(name, results, ours) for name, results in rounds.items()],
    }


def program(name, results, ours):
    failed = [result for result in results if "error" in result]
    if failed:
        return {"name": name, "error": failed[0]["error"]}
    row = {"name": name, "version": results[0].get("version", ""), "each_round": results}
    if results[0].get("note"):
        row["note"] = results[0]["note"]
    for key, _ in SPEEDS:
        row[key] = spread([result[key] for result in results])
        # Bandwidth changes within minutes: a ratio is one of neighbours.
        if results is not ours and not any("error" in result for result in ours):
            ratios = [our[key] / result[key] for our, result in zip(ours, results)]
            row[key]["ratio"] = statistics.median(ratios)
    row["others"] = max(result["others"] for result in results)
    for key in LIMITS:
        if key in results[0]:
            row[key] = spread([result[key] for result in results])
    return row


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(result):
    lines = [
        f"{result['model']}: {result['threads']} threads, {result['rounds']} rounds; prompt of "
        f"{result['prompt_tokens']} tokens, {result['new_tokens']} decoded; medians (from … to)",
        "",
    ]
    rows = [["program", "version", *(title for _, title in SPEEDS), "halfbyte/peer: prompt", "decode"]]
    notes = []
    for row in result["programs"]:
        if "error" in row:
            rows.append([row["name"], "fails"])
            notes.append(f"{row['name']}: {row['error']}")
            continue
        speeds = [row[key] for key, _ in SPEEDS]
        cells = [f"{s['median']:.2f} ({s['min']:.2f} … {s['max']:.2f})" for s in speeds]
        ratios = [f"{s['ratio']:.2f}" if "ratio" in s else "" for s in speeds]
        rows.append([row["name"], row["version"], *cells, *ratios])
        if row["others"] >= DISTURBED:
            notes.append(f"{row['name']}: DISTURBED, others took up to {100 * row['others']:.0f} % of the CPU")
        if "note" in row:
            notes.append(f"{row['name']}: {row['note']}")
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    for row in rows:
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return "\n".join([*lines, "", *limits(result["programs"][0]), *notes])


def limits(ours):
    if "error" in ours:
        return []
    median = {key: ours[key]["median"] for key in LIMITS}
    read, int8 = ours["read_gb_s"], ours["int8_gops"]
    return [
        f"halfbyte's limits: {median['read_gb_s']:.1f} GB/s read ({read['min']:.1f} … {read['max']:.1f}), "
        f"{median['int8_gops']:.0f} GOPS int8 ({int8['min']:.0f} … {int8['max']:.0f}); it reaches "
        f"{100 * median['decode_fraction']:.1f} % and {100 * median['prompt_fraction']:.1f} % of them",
    ]
