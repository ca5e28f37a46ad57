"""Changes for the worse, one at a time, in a copy of the package: for each at least one test has to fail.

python tests/mutations.py [WORD]: all mutations, or those whose title has WORD in it. Prints a table; the exit status is
the number of mutations that no test has noticed. A mutation is one piece of text that stands once in one module.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("xyield", "tests", "settings.ini", "pyproject.toml")  # what else there is the copy links to


@dataclass(frozen=True)
class Mutation:
    title: str
    module: str
    old: str
    new: str
    tests: str  # for pytest: files or single tests, parted by blanks; those that ought to notice


BILEVEL, METHODS, SPLITS, STORAGE = (f"tests/test_{name}.py" for name in ("bilevel", "methods", "splits", "storage"))
BY_HAND = f"{METHODS}::test_the_bilevel_stage_is_the_loop_of_its_chapter"
NO_TRACE = f"{METHODS}::test_a_lower_level_that_does_nothing_leaves_no_trace"
PLAIN = f"{METHODS}::test_training_is_the_plain_loop"
PRUNED = f"{METHODS}::test_every_replicate_is_pruned_by_itself_and_what_is_zero_stays_zero"
TWO = f"{METHODS}::test_two_processes_do_what_one_does_with_whole_batches"
LOOPS = f"{BILEVEL}::test_loops_compute_their_formulas"
PAIRS = f"{STORAGE}::test_forty_pairs_of_processes_want_the_same_at_once"
KEYS = f"{STORAGE}::test_a_changed_hyperparameter_data_or_seed_is_another_question"

MUTATIONS = [
    # several processes
    Mutation("two processes: plain steps are not averaged", "training",
             "wrapped = accelerator.prepare(network)", "wrapped = network", TWO),
    Mutation("two processes: Bi-RPT is not averaged", "bilevel",
             "several = self.accelerator is not None and", "several = False and", TWO),
    Mutation("two processes: the same, noticed without the engine", "bilevel",
             "several = self.accelerator is not None and", "several = False and",
             f"{BILEVEL}::test_two_processes_do_what_one_does_with_whole_batches"),
    Mutation("two processes: the full batch on each", "training", "return batch[rank::n]", "return batch", TWO),
    Mutation("two processes: a loader's same half on each", "training",
             "n, accelerator.process_index, split_batches", "n, 0, split_batches", TWO),
    # Bi-RPT
    Mutation("λ_l without decay", "bilevel", "decay * self.lower_rate,", "self.lower_rate,",
             f"{BILEVEL}::test_steps_are_algorithm_2"),
    Mutation("λ_m without decay", "bilevel", "decay * self.mask_rate)", "self.mask_rate)",
             f"{BILEVEL}::test_steps_are_algorithm_2"),
    Mutation("source batches touch running statistics", "bilevel", "batch, leaves_trace=False)",
             "batch, leaves_trace=True)", f"{BILEVEL}::test_source_batches_leave_no_trace_in_buffers"),
    Mutation("source batches touch running statistics of alloys", "bilevel", "batch, leaves_trace=False)",
             "batch, leaves_trace=True)", f"{NO_TRACE}[alloys]"),
    Mutation("source batches touch running statistics of images", "bilevel", "batch, leaves_trace=False)",
             "batch, leaves_trace=True)", f"{NO_TRACE}[images]"),
    Mutation("the proximal step is divided by the mask itself", "bilevel",
             "return proximal_step(hat_s, hat_t, ratio", "return proximal_step(hat_s, hat_s, ratio",
             f"{BILEVEL}::test_steps_are_algorithm_2"),
    Mutation("loops: both masks gate the weight by m_s", "bilevel", "(t / (t + epsilon))",
             "(s / (s + epsilon))", LOOPS),
    Mutation("loops: the slopes change places", "bilevel", "((m_t[i] + m_t[i]) / t) * g_s",
             "((m_s[i] + m_s[i]) / s) * g_s", LOOPS),
    Mutation("loops: the lower step goes uphill", "bilevel", "weight[i] - rate * (gradient[i]",
             "weight[i] + rate * (gradient[i]", LOOPS),
    Mutation("loops: the adjoint forgets v", "bilevel", "h[i] * weight[i] - rate * v[i] * gradient[i]",
             "h[i] * weight[i]", LOOPS),
    Mutation("loops: a mask whose other is zero is thresholded", "bilevel",
             "for_s if for_s < np.inf else none", "for_s", LOOPS),
    Mutation("loops: a mask is shrunk by itself", "bilevel", "strength / abs(t), strength / abs(s)",
             "strength / abs(s), strength / abs(t)", LOOPS),
    Mutation("loops: they are never used", "bilevel", "tensor.dtype == torch.float32 and", "False and", LOOPS),
    Mutation("loops: they are used where a gradient is wanted", "bilevel",
             " and not (tensor.requires_grad and torch.is_grad_enabled())", "",
             f"{BILEVEL}::test_formulas_where_loops_cannot_be"),
    Mutation("networks one by one forget their statistics", "networks",
             "own(norm.running_mean), own(norm.running_var)", "own(norm.bias), own(norm.weight)",
             f"{METHODS}::test_networks_one_by_one_predict_what_they_predict_together"),
    Mutation("networks one by one are all the first", "networks", "tensor.chunk(model.replicates)[k]",
             "tensor.chunk(model.replicates)[0]",
             f"{METHODS}::test_networks_one_by_one_predict_what_they_predict_together"),
    Mutation("ε does not decay", "methods", "        self.method.end_epoch()", "        pass", BY_HAND),
    Mutation("ε does not decay, in the method", "bilevel", "    self.epochs += 1", "    self.epochs += 0",
             f"{BILEVEL}::test_epsilon_can_decay_for_ever {BILEVEL}::test_steps_are_algorithm_2"),
    Mutation("the lower level is taken at every step", "methods", "if self.method.needs_source else None", "", BY_HAND),
    Mutation("the gates stay out of the weights at the end", "methods", "        self.method.finish()\n", "", BY_HAND),
    # methods and engine
    Mutation("replicates are pruned across each other", "training",
             "prune_smallest(network, masks, replicates=len(seeds))", "prune_smallest(network, masks)", PRUNED),
    Mutation("momentum and decay move what was pruned", "masks", "optimizer.register_step_post_hook(zero)",
             "optimizer.register_step_post_hook(lambda *_: None)", PRUNED),
    Mutation("20 % of all weights, not of the remaining ones", "masks", "round(fraction * n)",
             "round(fraction * len(row))", PRUNED),
    Mutation("random masks are not random", "masks", "row[torch.randperm(len(row), generator=g)]", "row",
             f"{METHODS}::test_random_masks_have_as_many_zeros_in_each_layer_at_other_places"),
    Mutation("the control without masks learns one", "methods",
             "learn_source_mask=False, learn_target_mask=False", "learn_source_mask=False", NO_TRACE),
    Mutation("Mix-Training forgets the source", "methods", '(batch, self.domain), (next(source), "source")',
             "((batch, self.domain),)", PLAIN),
    Mutation("rounds of source and target change places", "methods", "*source_rounds * (on_source,)",
             "*target_rounds * (on_source,)", f"{METHODS}::test_stages_that_begin_alike_are_trained_once"),
    Mutation("the rate is that of the next epoch", "training", "schedule.rate(epoch)", "schedule.rate(epoch + 1)",
             PLAIN),
    Mutation("steps down come an epoch early", "training", "0.1 ** (done // self.decay_every)",
             "0.1 ** ((done + 1) // self.decay_every)", f"{METHODS}::test_the_rate_of_every_epoch"),
    Mutation("the cosine ends an epoch early", "training", "/ (self.epochs - self.warmup_epochs)",
             "/ (self.epochs - self.warmup_epochs - 1)", f"{METHODS}::test_the_rate_of_every_epoch"),
    Mutation("weight decay is forgotten", "training", "weight_decay=schedule.weight_decay", "weight_decay=0.0", PLAIN),
    Mutation("all seeds start from the first pretrained network", "networks", "value.chunk(replicates)[i]",
             "value.chunk(replicates)[0]", f"{METHODS}::test_seeds_start_from_their_pretrained_network"),
    Mutation("the last epoch is the best", "alloy_world", '"last": curve[-1]', '"last": curve[best]',
             f"{METHODS}::test_a_row_says_what_the_predictions_say"),
    Mutation("the best epoch is the worst", "alloy_world",
             "curve.argmax() if task.higher_is_better else curve.argmin()",
             "curve.argmin() if task.higher_is_better else curve.argmax()",
             f"{METHODS}::test_a_row_says_what_the_predictions_say"),
    Mutation("networks are trained on the test points", "alloy_world",
             "np.asarray(world.protocol.split(world.points, seed)[0])",
             "np.asarray(world.protocol.split(world.points, seed)[1])", METHODS),
    Mutation("images of the target may answer with a class of the source", "image_world",
             "else slice(self.data.n_source, None)", "else slice(0, None)",
             "tests/test_images.py::test_each_domain_has_its_own_outputs"),
    # splits, statistics, simulator, peers
    Mutation("FewShot ignores its seed", "splits", "random_state=seed, stratify", "random_state=0, stratify", SPLITS),
    Mutation("splits are not stratified", "splits", "stratify=groups", "stratify=None", SPLITS),
    Mutation("papers of the test fold are trained on", "splits", "if held.isdisjoint(papers.iloc[i])", "", SPLITS),
    Mutation("a mean leaves failed runs out", "statistics", "result = groups.agg(mean=lambda v: interval(v)[0]",
             'result = groups.agg(mean="mean"', f"{STORAGE}::test_one_diverged_replicate_is_recorded_and_the_others_are"
             "_as_without_it"),
    Mutation("all presets are Table 4's", "simulator", "ELEMENTS[elements].to_numpy()", 'ELEMENTS["table4"].to_numpy()',
             "tests/test_simulator.py::test_presets_are_their_own_constants"),
    Mutation("peers are fitted to all points", "peers", "points.iloc[train], strength[train], points)",
             "points, strength, points)",
             "tests/test_estimator.py::test_a_peer_sees_the_training_points_and_no_others"),
    # the store
    Mutation("the key leaves the data out", "alloy_world", '"protocol": world.protocol, "points": world.points}',
             '"protocol": world.protocol}', KEYS),
    Mutation("the key leaves the pretraining's size out", "alloy_world", '"n_simulated": world.n_simulated, "elements"',
             '"elements"', KEYS),
    Mutation("the key leaves the image settings out", "image_world", '"settings": settings,', '"settings": None,',
             f"{STORAGE}::test_a_changed_hyperparameter_data_or_seed_of_images_is_another_question"),
    Mutation("the key leaves the hardware out", "training", "hardware=hardware.determines(),", "",
             f"{STORAGE}::test_hardware_that_changes_the_digits_is_another_question"),
    Mutation("the key leaves a user's code out", "store", "digest([code_version(*sorted(code)), foreign.found])",
             "digest([code_version(*sorted(code))])",
             f"{STORAGE}::test_a_method_and_a_world_of_ones_own_count_with_their_code"),
    Mutation("the checksum is not compared", "store",
             'if metadata.get("checksum") != _checksum(arrays, metadata.get("content", "")):', "if False:",
             f"{STORAGE}::test_every_flipped_byte_of_a_record_is_noticed"),
    Mutation("a whole file is right under any name", "store", "json.loads(json.dumps(about or {}))", "{}",
             f"{STORAGE}::test_a_whole_file_under_the_wrong_name_is_noticed"),
    Mutation("nobody waits for a lock", "store", "holding = FileLock(lock)",
             'holding = FileLock(f"{lock}{os.getpid()}")', PAIRS),
    Mutation("the living are taken for the dead", "store", 'FileLock(leftover / "lock", timeout=0)',
             "contextlib.nullcontext()", PAIRS),
    Mutation("a writer's folder may vanish under it", "store",
             "contextlib.suppress(FileNotFoundError, FileExistsError)", "contextlib.nullcontext()",
             f"{STORAGE}::test_a_folder_that_is_cleared_away_before_it_is_locked_is_made_again"),
    Mutation("an interrupted training forgets its optimiser", "training",
             'optimizer.load_state_dict(optimizer.state_dict() | {"state": states})', "pass",
             f"{STORAGE}::test_a_damaged_progress_file_costs_time_and_no_bits"),
    Mutation("an interrupted training forgets its masks", "training",
             'step.load_state_dict(_tensors(found["step"]))', "pass",
             f"{STORAGE}::test_a_damaged_progress_file_costs_time_and_no_bits"),
    Mutation("training leaves other random numbers behind", "training", "random.setstate(python)", "pass",
             f"{STORAGE}::test_the_global_random_state_does_not_matter"),
]


def copy(folder: Path):
    "A checkout in `folder` whose package may be changed."
    for path in ROOT.iterdir():
        if path.name in COPIED and path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name in COPIED:
            shutil.copy(path, folder)
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


def tested(folder: Path, tests: set[str]) -> tuple[bool, str]:
    "Whether all `tests` pass in the checkout, and what pytest says at the end."
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
                                "XYIELD_RUNS": str(folder / "runs")}
    done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *sorted(tests)],
                          cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest could not run {' '.join(tests)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, lines[0].partition("::")[2].partition(" - ")[0] if lines else ""


def mutated(source: str, mutation: Mutation) -> str:
    if source.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.title}: {mutation.old!r} stands {source.count(mutation.old)} times in "
                         f"{mutation.module}; expected once")
    return source.replace(mutation.old, mutation.new)


def main(word: str = "") -> int:
    mutations, survivors = [m for m in MUTATIONS if word in m.title], 0
    with tempfile.TemporaryDirectory() as folder:
        copy(folder := Path(folder))
        sources = {m.module: (folder / "xyield" / f"{m.module}.py").read_text() for m in mutations}
        changed = {m: mutated(sources[m.module], m) for m in mutations}
        whole, said = tested(folder, set().union(*(m.tests.split() for m in mutations)))
        if not whole:
            raise SystemExit(f"without any mutation {said} fails")
        for m, text in changed.items():
            path, began = folder / "xyield" / f"{m.module}.py", time.monotonic()
            path.write_text(text)
            survives, said = tested(folder, set(m.tests.split()))
            path.write_text(sources[m.module])
            survivors += survives
            print(f"{'SURVIVES' if survives else 'noticed':9} {time.monotonic() - began:4.0f} s  {m.module:10}  "
                  f"{m.title:62}  {said}", flush=True)
    print(f"{len(mutations)} mutations, {survivors} not noticed")
    return survivors


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
