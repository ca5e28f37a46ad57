"""The page of the leaderboard: a table to sort and filter in the browser, and a picture; scores are computed here."""

import html
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from site_paths import ROOT, document_of, served

from xyield.benchmark import MAY_SEE, QUESTIONS, REFERENCE, leaderboard

ENTRIES = ROOT / "leaderboard"
FIRST = "few_shot_23"  # the task that is shown at first
KINDS = {"baseline": "#6b7280", "library": "#b45309", "literature": "#0f766e", "paper": "#7c3aed", "ours": "#1d4ed8",
         "guest": "#be185d"}
COLUMNS = [  # score, heading, what it means, format; sorted upwards unless it says "high"
    ("mse", "MSE", "mean squared error (GPa²), ± half of the 95 % interval", "{:.4f}", "low"),
    ("mse_minus", "− ref.", "MSE minus that of the reference on the same points", "{:+.4f}", "low"),
    ("mae", "MAE", "mean absolute error (GPa)", "{:.3f}", "low"),
    ("spearman", "rank", "Spearman's rank correlation", "{:.3f}", "high"),
    ("crps", "CRPS", "continuous ranked probability score (GPa): close and honest at once", "{:.4f}", "low"),
    ("nll", "NLL", "negative log likelihood of the measurements", "{:.2f}", "low"),
    ("calibration_error", "calib.", "mean distance of observed from nominal coverage", "{:.3f}", "low"),
    ("cover50", "50 %", "measurements within the 50 % interval", "{:.0%}", "high"),
    ("cover80", "80 %", "measurements within the 80 % interval", "{:.0%}", "high"),
    ("cover95", "95 %", "measurements within the 95 % interval", "{:.0%}", "high"),
    ("seconds", "fit (s)", "seconds of one fit, on the hardware of the entry", "{:.2f}", "low"),
]


def _number(row, score, form) -> str:
    value, half = row[score], row.get(f"{score}_ci95", np.nan)
    if pd.isna(value):
        return '<td data-value="">–</td>'
    if score == "mse_minus" and row["name"] == REFERENCE:
        return '<td data-value="0">reference</td>'
    with_half = score in ("mse", "mse_minus", "crps") and not pd.isna(half)
    spread = f' <span class="ci">± {form.format(half).lstrip("+")}</span>' if with_half else ""
    return f'<td data-value="{value:.6g}">{form.format(value)}{spread}</td>'


def _bar(row, most) -> str:
    "The MSE as a point with its interval, on the scale of the task."
    half = 0.0 if pd.isna(row["mse_ci95"]) else row["mse_ci95"]
    low, middle, high = (100 * np.clip(v / most, 0, 1) for v in (row["mse"] - half, row["mse"], row["mse"] + half))
    colour = KINDS[row["kind"]]
    return (f'<td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="5" y2="5" stroke="{colour}" stroke-width="2" opacity="0.5"/>'
            f'<rect x="{middle - 1:.1f}" y="1" width="2" height="8" fill="{colour}"/></svg></td>')


def _place(file) -> str:
    "A file of the repository on the site: its page, or a copy."
    document = document_of(file)
    return document.rpartition(".")[0] + ".html" if document else served(file)


def code_link(code: str) -> str:
    "Where an entry's code is; raises `ValueError` for what is neither a web address nor a file of the repository."
    if re.match(r"https?://\S+$", code):
        return code
    file = (ROOT / code).resolve()
    if not file.is_relative_to(ROOT) or not file.is_file():
        raise ValueError(f"code is {code!r}; expected an address https://…, or the path of a file of this repository")
    return _place(file)


def _entry(row, failed) -> str:
    "Title with its kind as a colour, and behind it who, when, at what cost."
    text = {k: html.escape(str(v)) for k, v in row.items()}
    link = f'<a href="{html.escape(code_link(row["code"]))}">code</a>'
    files = f'<a href="{_place(ENTRIES / "predictions" / row["predictions"])}" download>predictions</a>'
    lost = f"<br>Failed splits: {len(failed)}, the first: {html.escape(next(iter(failed.values())))}" if failed else ""
    kind = f'<span class="kind" style="--c: {KINDS[row["kind"]]}" title="{row["kind"]}"></span>'
    return (f'<th scope="row" data-value="{text["title"].lower()}"><details><summary>{kind}{text["title"]}</summary><p>'
            f'{text["description"]}<br>Kind: {row["kind"]}.<br><b>{text["authors"]}</b>, {text["date"]:.10}<br>'
            f'Budget: {text["budget"]}.<br>'
            f'Hardware: {text["hardware"]}.<br>{link} · {files}{lost}</p></details></th>')


def _row(row, most, failed) -> str:
    numbers = "".join(_number(row, score, form) for score, _, _, form, _ in COLUMNS)
    shown = "" if row["task"] == FIRST else " hidden"
    uses = "yes" if row["simulator"] else "no"
    sure = "no" if pd.isna(row.get("crps")) else "yes"
    return (f'<tr data-task="{row["task"]}" data-kind="{row["kind"]}" data-simulator="{uses}" data-std="{sure}"{shown}>'
            f'{_entry(row, failed)}{_bar(row, most)}{numbers}<td data-value="{uses}">{uses}</td></tr>')


def _options(values: dict, chosen=None) -> str:
    return "".join(f'<option value="{v}"{" selected" if v == chosen else ""}>{t}</option>' for v, t in values.items())


def board(table: pd.DataFrame) -> str:
    "The table with its controls, as HTML; without scripts it shows the first task."
    kinds = {"": "all kinds"} | {k: k for k in KINDS if k in set(table["kind"])}
    said = {name: yaml.safe_load((ENTRIES / f"{name}.yml").read_text()) for name in table["name"].unique()}
    failed = {name: entry.get("failed", {}) for name, entry in said.items()}
    choices = [("Task", "task", {t: t for t in QUESTIONS}), ("Kind", "kind", kinds),
               ("Simulator", "simulator", {"": "any", "yes": "uses it", "no": "does without"}),
               ("Intervals", "std", {"": "any", "yes": "says how sure it is"})]
    controls = "".join(f'<label>{label} <select data-filter="{name}">{_options(values, FIRST)}</select></label>'
                       for label, name, values in choices)
    controls += '<label>Search <input type="search" data-filter="text" size="14"></label>'
    heads = [("entry", "Entry", "title", "low"), (None, "", "", "")]
    heads += [(score, short, long, way) for score, short, long, _, way in COLUMNS]
    heads.append(("simulator", "sim.", "uses the simulator", "low"))
    drawn = '<span class="visually-hidden">MSE, drawn</span>'
    cells = "".join(
        f'<th scope="col"{" aria-sort=ascending" if key == "mse" else ""}>' + (
            f'<button type="button" data-way="{way}" title="{long}">{short}</button>' if key else drawn) + "</th>"
        for key, short, long, way in heads)
    rows = []
    for task, group in table.groupby("task", observed=True):
        most = 2 * group["mse"].median()
        rows += [_row(row, most, {k: v for k, v in failed[row["name"]].items() if k.startswith(f"{task}/")})
                 for _, row in group.iterrows()]
    questions = "".join(f'<p data-question="{t}"{"" if t == FIRST else " hidden"}>{html.escape(q)}</p>'
                        for t, q in QUESTIONS.items())
    return (f'<div id="leaderboard"><div class="choose">{controls}</div>{questions}'
            '<p class="count" aria-live="polite"></p>'
            '<div class="scroll" tabindex="0" role="region" aria-label="Scores">'
            f'<table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></div>'
            '<script src="_static/leaderboard.js"></script>')


def picture(table: pd.DataFrame, path):
    "Accuracy and honesty: MSE against the coverage of 95 % intervals, a panel a task."
    chosen = ["few_shot_11", "few_shot_23", "ten_folds", "systems", "publications", "cold_to_hot"]
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.4), layout="constrained", sharey=True)
    for axis, task in zip(axes.flat, chosen, strict=True):
        group = table[(table["task"] == task) & table["cover95"].notna() & (table["kind"] != "baseline")]
        for kind, part in group.groupby("kind"):
            axis.errorbar(part["mse"], 100 * part["cover95"], xerr=part["mse_ci95"], fmt="o", ms=5, lw=0.8,
                          color=KINDS[kind], label=kind)
        axis.axhline(95, color="0.6", lw=0.8, ls=":")
        axis.set(title=task, xscale="log", xticks=[0.02, 0.03, 0.05, 0.1, 0.2], xlim=(0.015, 0.2), ylim=(None, 100))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.tick_params(labelsize=8)
    for axis in axes[1]:
        axis.set_xlabel("mean squared error (GPa²)")
    for axis in axes[:, 0]:
        axis.set_ylabel("95 % intervals cover (%)")
    handles = [zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes.flat]
    found = {label: handle for pairs in handles for handle, label in pairs}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def write_leaderboard(path) -> dict[str, str]:
    "The picture at `path`, and what the page says."
    table = leaderboard(ENTRIES)
    picture(table, path)
    reference = table.loc[table["name"] == REFERENCE, "title"]
    return {"leaderboard": board(table), "may_see": MAY_SEE, "n_entries": str(table["name"].nunique()),
            "reference": reference.iloc[0] if len(reference) else "none"}
