"""How fast the largest eigenvalues are had: samsweep beside PyHessian, curvlinops and others.

    mkdir -p data && tar -xf cifar100-mini.tar -C data    # or ARGS='--data FOLDER'
    make bench-sharpness
    python benchmarks/sharpness.py --model resnet20 --images 256 --starts 2 --methods samsweep

The second line takes all of PLAN, or a part with ARGS='--case resnet18'; the third is another case.
Networks are trained once, through samsweep, and measured in eval mode on their first training
images. A method is taken at its loosest setting with which every starting vector gives every
eigenvalue to 1e-3, relative to itself. Seconds are medians over the starting vectors, the methods
taking turns.

The truth is Lanczos to 1e-5 with the plain double backward; for one batch its eigenvectors then go
through Rayleigh-Ritz in float64. Peak memory is that of a method in a process of its own. The JSON
of the plan's cases goes to benchmarks/results, each with the environment it was measured in.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from harness import (
    DATA,
    RESULTS,
    check_images,
    compose_run,
    environment,
    memory_mib,
    start_of_peak,
    write,
)
from sharpness_methods import (
    METHODS,
    TARGET,
    Enough,
    Outcome,
    Problem,
    Products,
    Search,
    Task,
    search,
)
from tabulate import tabulate
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import cross_entropy

from samsweep.data.load import load_dataset
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.sharpness import HessianOperator, double_backward, lanczos
from samsweep.training.checkpoint import read_weights
from samsweep.training.trainer import initial_model

STUDY = "bench_sharpness"
LIBRARIES = ("PyHessian", "curvlinops-for-pytorch", "hessian-eigenthings")

#: On two cores each of the ResNets trains for a quarter of an hour.
EPOCHS = {"resnet8": 15, "resnet20": 15, "resnet18": 6}

#: The truth's starting vector is none of those measured.
TRUTH_SEED, TRUTH_TOLERANCE = 10_000, 5e-5


@dataclass(frozen=True)
class Case:
    """One network on one set of images.

    Args:
        model: A key of :data:`EPOCHS`.
        images: How many.
        ks: Numbers of eigenvalues.
        starts: Starting vectors.
        methods: Keys of :data:`METHODS`.
        memory: Numbers of images at which peak memory is measured, with the smallest k. Only
            samsweep and PyHessian are measured at more than the first.
    """

    model: str
    images: int
    ks: tuple[int, ...] = (1,)
    starts: int = 5
    methods: tuple[str, ...] = tuple(METHODS)
    memory: tuple[int, ...] = ()


#: An hour on two cores. Left out is what would take longer than the rest: for ResNet-18 a library's
#: ladder of up to 60 steps, on 2,048 images scipy's own ncv with its 21 products of half a minute
#: each, and more than one start.
PLAN = {
    "resnet20": Case("resnet20", images=128, ks=(1, 5), memory=(128, 512, 2048)),
    "resnet18": Case(
        "resnet18",
        images=32,
        methods=("samsweep", "pyhessian", "curvlinops", "eigenthings"),
        memory=(32, 128),
    ),
    "thousands": Case(
        "resnet20",
        images=2048,
        starts=1,
        methods=("samsweep", "pyhessian", "curvlinops_ncv", "eigenthings"),
    ),
}


# --------------------------------------------------------------------------- networks and images


def overrides(model: str, data: Path) -> list[str]:
    return [
        f"model={model}",
        "opt=sgd",
        "dataset=image_folder",
        f"dataset.path={data}",
        f"epochs={EPOCHS[model]}",
        "sharpness=none",
        f"study={STUDY}",
    ]


def trained_weights(model: str, data: Path) -> Path:
    """The weights' file, after training if there is none yet."""
    identity = cell_id(compose_run(overrides(model, data)).cell)
    cell = CellFolder(Path("multirun") / STUDY / "cells" / identity)
    if not cell.weights_file.exists():
        print(f"Training {model} for {EPOCHS[model]} epochs; the next run finds it in {cell.path}.")
        command = [sys.executable, "-m", "samsweep.run", *overrides(model, data)]
        subprocess.run(command, check=True)
    return cell.weights_file


@dataclass(frozen=True)
class Source:
    """Where a problem comes from, also in another process."""

    model: str
    weights: Path
    data: Path
    batch_size: int
    threads: int

    def load(self, images: int) -> Problem:
        """The trained network and the first training images."""
        torch.set_num_threads(self.threads)
        threadpool_limits(self.threads)
        run = compose_run(overrides(self.model, self.data))
        data = load_dataset(run.cell.dataset, data_dir=run.data_dir, path=run.data_path)
        model = initial_model(run.cell, data)
        model.load_state_dict(read_weights(self.weights))
        if images > len(data.train):
            raise SystemExit(f"--images {images}: there are {len(data.train)} training images")
        pixels, labels = data.train.batch(torch.arange(images))
        return Problem(model.eval(), data.normalize(pixels), labels, min(self.batch_size, images))


# --------------------------------------------------------------------------- the truth


def true_eigenvalues(problem: Problem, k: int) -> list[float]:
    """The k largest eigenvalues, by products that share no code with those that are measured."""
    hessian = plain_hessian(problem)
    found = lanczos(
        hessian.matvec,
        hessian.dim,
        k=k,
        tolerance=TRUTH_TOLERANCE,
        max_matvecs=500,
        seed=TRUTH_SEED,
        eigenvectors=True,
    )
    if not found.converged or found.eigenvectors is None:
        raise SystemExit(f"the true eigenvalues are known to {found.error_bounds} only")
    if len(problem.batches) > 1:
        return [float(value) for value in found.eigenvalues]
    return rayleigh_ritz(problem, found.eigenvectors)


def rayleigh_ritz(problem: Problem, vectors: Tensor) -> list[float]:
    """Eigenvalues of the Hessian in float64, in the span of these rows; its error is squared."""
    model = copy.deepcopy(problem.model).double()
    hessian = plain_hessian(replace(problem, model=model, inputs=problem.inputs.double()))
    basis = torch.linalg.qr(vectors.double().T).Q.T.contiguous()
    small = torch.stack([hessian.matvec(v) for v in basis]) @ basis.T
    return torch.linalg.eigvalsh((small + small.T) / 2).flip(0).tolist()


def plain_hessian(problem: Problem) -> HessianOperator:
    return HessianOperator(
        problem.model,
        problem.inputs,
        problem.labels,
        physical_batch_size=problem.batch_size,
        hvp=double_backward,
    )


# --------------------------------------------------------------------------- measuring


def measure(case: Case, source: Source) -> dict[str, Any]:
    started = time.perf_counter()
    print(f"\n{case.model}, {case.images} images, {case.starts} starting vectors", flush=True)
    problem = source.load(case.images)
    gradient = gradient_seconds(problem)
    truth = true_eigenvalues(problem, max(case.ks))
    print("true eigenvalues: " + ", ".join(f"{value:.5g}" for value in truth), flush=True)
    searches = [Search(METHODS[name], k) for k in case.ks for name in case.methods]
    search(problem, searches, case.starts, truth, tell)
    rows = [result_of(each) for each in searches]
    for row in rows:
        row["times_samsweep"] = times_samsweep(row, rows)
    for row in rows[: len(case.methods)]:
        row["peak_mib"] = peaks_of(row, case, source)
    return {
        "model": case.model,
        "images": case.images,
        "batch_size": problem.batch_size,
        "starts": case.starts,
        "gradient_seconds": gradient,
        "eigenvalues": truth,
        "rows": rows,
        "seconds": round(time.perf_counter() - started, 1),
    }


def gradient_seconds(problem: Problem) -> float:
    """Of one batch, the median of five; the first warms the machine up as well."""
    inputs, labels = problem.batches[0]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        torch.autograd.grad(cross_entropy(problem.model(inputs), labels), problem.params)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def tell(each: Search, setting: float, start: int, outcome: Outcome) -> None:
    print(
        f"start {start}, top {each.k}, {each.method.title} at {setting:.2g}: "
        f"{outcome.products} products, error {outcome.error:.1e}, {outcome.seconds:.1f} s",
        flush=True,
    )


def result_of(each: Search) -> dict[str, Any]:
    outcomes = [outcome for _, outcome in sorted(each.outcomes.items())]
    columns = {
        name: [getattr(outcome, name) for outcome in outcomes]
        for name in ("error", "seconds", "products")
    }
    return {
        "method": next(name for name, method in METHODS.items() if method is each.method),
        "k": each.k,
        "setting": each.setting,
        "reached": each.reached,
        "median_seconds": statistics.median(columns["seconds"]),
        **columns,
        "largest_error_by_setting": {f"{s:.3g}": error for s, error in each.tried.items()},
    }


def times_samsweep(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """Seconds as a multiple of samsweep's for as many eigenvalues."""
    ours = [r for r in rows if (r["method"], r["k"]) == ("samsweep", row["k"])]
    return row["median_seconds"] / ours[0]["median_seconds"] if ours else None


# --------------------------------------------------------------------------- memory


def peaks_of(row: dict[str, Any], case: Case, source: Source) -> dict[int, float]:
    """MiB by number of images, each in a fresh process."""
    flat = row["method"] in ("samsweep", "pyhessian")
    found = {}
    for images in case.memory if flat else case.memory[:1]:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
            peak = pool.submit(peak_mib, source, images, row["method"], row["k"], row["setting"])
            found[images] = round(peak.result(), 1)
        print(
            f"{METHODS[row['method']].title}, {images} images: {found[images]:.0f} MiB", flush=True
        )
    return found


def peak_mib(source: Source, images: int, method: str, k: int, setting: float) -> float:
    """Peak memory of a run above what network and images take (Linux only).

    Two products show the peak of the other libraries, whose vectors of later steps are left out;
    samsweep's run is a whole one.
    """
    problem = source.load(images)
    loss = cross_entropy(problem.model(problem.inputs[:1]), problem.labels[:1])
    torch.autograd.grad(loss, problem.params)  # what libraries set up once is not counted
    task = Task(problem, k, setting, start=0, products=Products(keep=False, limit=2))
    before = start_of_peak()
    with suppress(Enough):
        METHODS[method].run(task)
    return memory_mib("VmHWM") - before


# --------------------------------------------------------------------------- telling


def table(result: dict[str, Any]) -> str:
    rows = [
        (
            row["k"],
            METHODS[row["method"]].title,
            f"{row['setting']:.2g}" + ("" if row["reached"] else " (misses)"),
            f"{statistics.median(row['products']):g}",
            f"{statistics.median(row['error']):.1e}",
            f"{max(row['error']):.1e}",
            f"{row['median_seconds']:.2f}",
            "" if row["times_samsweep"] is None else f"{row['times_samsweep']:.2f}",
            ", ".join(f"{mib:.0f}" for mib in row.get("peak_mib", {}).values()),
        )
        for row in result["rows"]
    ]
    headers = ["k", "method", "tolerance or steps", "products", "error", "largest", "seconds"]
    return tabulate(rows, headers=[*headers, "of samsweep's", "peak MiB"], disable_numparse=True)


def heading(result: dict[str, Any]) -> str:
    return (
        f"{result['model']}, {result['images']} images in batches of {result['batch_size']}, "
        f"median of {result['starts']}; a gradient of one batch takes "
        f"{result['gradient_seconds']:.2f} s"
    )


# --------------------------------------------------------------------------- command line


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=PLAN, help="of the plan; default: all")
    one = parser.add_argument_group("one case in place of the plan (any of these)")
    one.add_argument("--model", choices=EPOCHS)
    one.add_argument("--images", type=int)
    one.add_argument("--k", type=int, nargs="+")
    one.add_argument("--starts", type=int)
    one.add_argument("--memory", type=int, nargs="+", help="images at which to measure memory")
    one.add_argument("--methods", nargs="+", choices=METHODS, help="fewer methods")
    parser.add_argument(
        "--batch-size", type=int, default=128, help="of the libraries' data loaders"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA, help=f"images; default: {DATA}")
    parser.add_argument("--folder", type=Path, help="with weights.safetensors of --model")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results for the plan's")
    return parser.parse_args()


def cases_of(arguments: argparse.Namespace) -> dict[str, Case]:
    """What to measure: cases of the plan by their names, or one of another kind."""
    told = {
        "model": arguments.model,
        "images": arguments.images,
        "ks": arguments.k and tuple(sorted(arguments.k)),
        "starts": arguments.starts,
        "memory": arguments.memory and tuple(arguments.memory),
        "methods": arguments.methods and tuple(arguments.methods),
    }
    told = {name: value for name, value in told.items() if value is not None}
    if told and arguments.case:
        raise SystemExit(f"--case and {', '.join(told)}: choose a case of the plan, or make one")
    if told:
        return {"told": replace(Case("resnet20", images=128), **told)}
    return {name: PLAN[name] for name in arguments.case or PLAN}


def sources_of(arguments: argparse.Namespace, cases: Iterable[Case]) -> dict[str, Source]:
    """By model; what has to be trained is trained before anything is measured."""
    check_images(arguments.data)
    found = {}
    for model in {case.model for case in cases}:
        if arguments.folder is None:
            weights = trained_weights(model, arguments.data)
        else:
            weights = arguments.folder / "weights.safetensors"
        found[model] = Source(
            model, weights, arguments.data, arguments.batch_size, arguments.threads
        )
    return found


def main() -> None:
    arguments = parse()
    cases = cases_of(arguments)
    sources = sources_of(arguments, cases.values())
    out = arguments.out or (RESULTS / "sharpness.json" if cases.keys() <= PLAN.keys() else None)
    known = json.loads(out.read_text())["cases"] if out is not None and out.exists() else {}
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    for name, case in cases.items():
        around = environment(num_threads=arguments.threads, libraries=libraries)
        known[name] = {**measure(case, sources[case.model]), "environment": around}
        if out is not None:  # after each case, for the next may be interrupted
            write(out, {"target": TARGET, "cases": known})
    for name in cases:
        print(f"\n{heading(known[name])}\n{table(known[name])}")


if __name__ == "__main__":
    main()
