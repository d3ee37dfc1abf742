"""What ``benchmarks/sharpness.py`` compares: that the libraries run as they do by themselves."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the wheel has no benchmarks", allow_module_level=True)
pytest.importorskip("curvlinops")
pytest.importorskip("hessian_eigenthings")


@pytest.fixture(scope="module")
def scripts():
    """The benchmark's files, under the names by which they find each other."""
    loaded = {}
    for name in ("harness", "sharpness_methods", "sharpness"):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    yield loaded
    for name in loaded:
        del sys.modules[name]


@pytest.fixture(scope="module")
def methods(scripts):
    return scripts["sharpness_methods"]


@pytest.fixture(scope="module")
def network():
    """162 parameters, trained until the largest eigenvalues stand apart, and its examples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 3)).eval()
    inputs, labels = torch.randn(48, 10), torch.randint(3, (48,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, inputs, labels


@pytest.fixture(scope="module")
def truth(network):
    """Of the dense Hessian in float64, largest first."""
    model, inputs, labels = network
    names, params = zip(*model.named_parameters(), strict=True)

    def loss(flat):
        parts = torch.split(flat, [p.numel() for p in params])
        weights = {n: v.view_as(p) for n, v, p in zip(names, parts, params, strict=True)}
        return cross_entropy(torch.func.functional_call(model, weights, inputs.double()), labels)

    point = torch.cat([p.detach().flatten() for p in params]).double()
    hessian = torch.autograd.functional.hessian(loss, point)
    return torch.linalg.eigvalsh(hessian).flip(0).tolist()


@pytest.fixture(params=[48, 16], ids=["one batch", "three batches"])
def problem(request, methods, network):
    return methods.Problem(*network, batch_size=request.param)


def pyhessian_itself(problem, tolerance, k, start):
    """Its eigenvalues, by nothing but its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyhessian import hessian

        batches = problem.batches
        data = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
        torch.manual_seed(start)
        found = hessian(problem.model, nn.CrossEntropyLoss(), cuda=False, **data)
        values, _ = found.eigenvalues(maxIter=1000, tol=tolerance, top_n=k)
    problem.model.zero_grad(set_to_none=True)
    return values


def test_pyhessian_with_kept_products_finds_what_it_finds_by_itself(methods, problem):
    products = methods.Products()
    counts = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        products.restart()
        found = methods.run_pyhessian(methods.Task(problem, 2, tolerance, 7, products))
        problem.model.zero_grad(set_to_none=True)
        assert found == pyhessian_itself(problem, tolerance, 2, 7)
        counts.append(products.num)
    assert counts == sorted(set(counts))


def test_a_run_that_settles_on_a_wrong_value_is_ended(methods, problem, truth):
    task = methods.Task(problem, 1, 0.5, 0, methods.Products(), truth[:1])
    wrong = abs(pyhessian_itself(problem, 0.5, 1, 0)[0] / truth[0] - 1)
    assert wrong > methods.TARGET
    with pytest.raises(methods.Hopeless) as ended:
        methods.run_pyhessian(task)
    problem.model.zero_grad(set_to_none=True)
    assert ended.value.error == pytest.approx(wrong)


@pytest.mark.slow
def test_every_method_finds_the_eigenvalues_of_the_dense_hessian(methods, problem, truth):
    reaching = [m for name, m in methods.METHODS.items() if name != "eigenthings"]
    searches = [methods.Search(method, 3) for method in reaching]
    methods.search(problem, searches, 2, truth[:3])
    for each in searches:
        assert each.reached, each.method.title
        assert sorted(each.outcomes) == [0, 1]
        tighter = list(each.tried.items())
        assert all(error > methods.TARGET for _, error in tighter[:-1]), each.method.title
        assert tighter[-1] == (each.setting, max(o.error for o in each.outcomes.values()))


def test_hessian_eigenthings_default_is_two_steps_per_eigenvalue(methods, problem, truth):
    found = methods.Search(methods.METHODS["eigenthings"], 3)
    methods.search(problem, [found], 1, truth[:3])
    assert found.outcomes[0].products == found.setting == 6


def test_the_truth_is_that_of_the_dense_hessian(scripts, problem, truth):
    found = scripts["sharpness"].true_eigenvalues(problem, 3)
    one_batch = len(problem.batches) == 1
    assert found == pytest.approx(truth[:3], rel=1e-6 if one_batch else 2e-5)


def test_a_product_is_taken_once_and_charged_each_time(methods, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(methods.time, "perf_counter", lambda: clock[0])

    def slow():
        clock[0] += 5
        return "product"

    products = methods.Products(limit=2)
    one, other = [torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 3.0])]
    assert products.take(one, slow) == products.take(other, slow) == "product"
    assert (clock, products.num, products.owed) == ([10.0], 2, 0.0)
    products.restart()
    products.take(other, slow)
    assert (clock, products.num, products.owed) == ([10.0], 1, 5.0)
    products.take(one, slow)
    with pytest.raises(methods.Enough):
        products.take(one, slow)


def test_the_loosest_setting_with_which_all_starts_succeed(methods):
    """Start 1 needs the third setting, and start 0 is then measured with it as well."""
    needed, calls = {0: 0.1, 1: 0.01}, []

    def fake(task):
        calls.append((task.start, task.setting))
        task.products.num = 3
        return [1.0 if task.setting <= needed[task.start] else 1.1]

    method = methods.Method("fake", "fake", lambda k: [1.0, 0.1, 0.01, 0.001], fake)
    found = methods.Search(method, 1)
    problem = methods.Problem(nn.Linear(1, 1), torch.zeros(1), torch.zeros(1), 1)
    methods.search(problem, [found], 2, [1.0])
    assert calls == [(0, 1.0), (0, 0.1), (1, 0.1), (1, 0.01), (0, 0.01)]
    assert found.setting == 0.01 and found.reached
    assert list(found.tried) == [1.0, 0.1, 0.01]


def test_errors_are_relative_and_in_descending_order(methods):
    assert methods.largest_error([1.0, 4.4], [4.0, 1.0]) == pytest.approx(0.1)
