"""The peers of `meta_step.py` and `small_step.py`: a worker that never imports jax, and answers
requests, a JSON line each.

Request `{"system": ..., "steps": K, "rate": lr, "file": npz, "repeats": 1}`; reply
`{"ms": ..., "cpu_ms": ..., "loss": ..., "norm": ...}`, the times those of one of the repeats, or
`{"error": ...}` for a system that is not installed. The names of the weights in the file say which
net they are of. Started by the two scripts in the peers' own environment.
"""

import functools
import importlib.metadata
import json
import os
import sys
import time

os.environ.setdefault(
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1"
)  # a first step compiles, as a user's first does

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
)


def parameter(array):
    return torch.nn.Parameter(torch.tensor(np.ascontiguousarray(array)))


class Conv4(torch.nn.Module):
    """Conv4 with batch statistics, from the weights of the npz file."""

    criterion = staticmethod(F.cross_entropy)

    def __init__(self, arrays):
        super().__init__()
        blocks = range(1, 5)
        self.kernels = torch.nn.ParameterList(
            [parameter(arrays[f"body/conv{i}/kernel"].transpose(3, 2, 0, 1)) for i in blocks]
        )
        self.scales = torch.nn.ParameterList(
            [parameter(arrays[f"body/norm{i}/scale"]) for i in blocks]
        )
        self.offsets = torch.nn.ParameterList(
            [parameter(arrays[f"body/norm{i}/offset"]) for i in blocks]
        )
        self.kernel, self.bias = parameter(arrays["head/kernel"].T), parameter(arrays["head/bias"])

    def forward(self, x):
        for kernel, scale, offset in zip(self.kernels, self.scales, self.offsets):
            x = F.batch_norm(
                F.conv2d(x, kernel, padding=1), None, None, scale, offset, training=True, eps=1e-5
            )
            x = F.max_pool2d(F.relu(x), 2)
        return F.linear(x.flatten(1), self.kernel, self.bias)

    @staticmethod
    def tasks(xs, ys, xq, yq):
        images = lambda a: torch.tensor(np.ascontiguousarray(a.transpose(0, 1, 4, 2, 3)))
        labels = lambda a: torch.tensor(a.astype(np.int64))
        return images(xs), labels(ys), images(xq), labels(yq)


class MLP(torch.nn.Module):
    """Two hidden layers with relu, for regression, from the weights of the npz file."""

    criterion = staticmethod(F.mse_loss)

    def __init__(self, arrays):
        super().__init__()
        layers = "body/dense1", "body/dense2", "head"
        self.kernels = torch.nn.ParameterList(
            [parameter(arrays[f"{layer}/kernel"].T) for layer in layers]
        )
        self.biases = torch.nn.ParameterList(
            [parameter(arrays[f"{layer}/bias"]) for layer in layers]
        )

    def forward(self, x):
        *hidden, head = zip(self.kernels, self.biases)
        for kernel, bias in hidden:
            x = F.relu(F.linear(x, kernel, bias))
        return F.linear(x, *head)

    @staticmethod
    def tasks(*arrays):
        return tuple(map(torch.tensor, arrays))


def func_step(net, steps, rate):
    """vmap over tasks of the gradient through the inner steps, as a function of parameters and
    tasks."""
    from torch.func import functional_call, grad, grad_and_value, vmap

    def loss(params, x, y):
        return net.criterion(functional_call(net, params, (x,)), y)

    def outer(params, xs, ys, xq, yq):
        for _ in range(steps):
            slope = grad(loss)(params, xs, ys)
            params = {name: p - rate * slope[name] for name, p in params.items()}
        return loss(params, xq, yq)

    def step(params, *tasks):
        grads, values = vmap(grad_and_value(outer), in_dims=(None, 0, 0, 0, 0))(params, *tasks)
        return values.mean(), [g.mean(0) for g in grads.values()]

    return step


compiled_step = functools.cache(lambda *problem: torch.compile(func_step(*problem)))


def torch_func(net, tasks, steps, rate, make=func_step):
    return make(net, steps, rate)({name: p.detach() for name, p in net.named_parameters()}, *tasks)


def higher_(net, tasks, steps, rate):
    import higher

    net.zero_grad()
    total = 0.0
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    for xs, ys, xq, yq in zip(*tasks):
        with higher.innerloop_ctx(net, optimiser, copy_initial_weights=False) as (learner, inner):
            for _ in range(steps):
                inner.step(net.criterion(learner(xs), ys))
            value = net.criterion(learner(xq), yq) / len(tasks[0])
            value.backward()
        total += value.detach()
    return total, [p.grad for p in net.parameters()]


def torchopt_(net, tasks, steps, rate):
    import torchopt

    net.zero_grad()
    total = 0.0
    inner = torchopt.MetaSGD(net, lr=rate)
    parameters = list(net.parameters())
    start, optimiser = torchopt.extract_state_dict(net), torchopt.extract_state_dict(inner)
    for xs, ys, xq, yq in zip(*tasks):
        for _ in range(steps):
            inner.step(net.criterion(net(xs), ys))
        value = net.criterion(net(xq), yq) / len(tasks[0])
        value.backward()
        total += value.detach()
        torchopt.recover_state_dict(net, start)
        torchopt.recover_state_dict(inner, optimiser)
    return total, [p.grad for p in parameters]


def torch_loop(net, tasks, steps, rate):
    """A loop over tasks with torch.autograd and nothing else."""
    from torch.func import functional_call

    start = dict(net.named_parameters())
    net.zero_grad()
    total = 0.0
    for xs, ys, xq, yq in zip(*tasks):
        params = start
        for _ in range(steps):
            value = net.criterion(functional_call(net, params, (xs,)), ys)
            slopes = torch.autograd.grad(value, list(params.values()), create_graph=True)
            params = {name: p - rate * g for (name, p), g in zip(params.items(), slopes)}
        value = net.criterion(functional_call(net, params, (xq,)), yq) / len(tasks[0])
        value.backward()
        total += value.detach()
    return total, [p.grad for p in net.parameters()]


SYSTEMS = {
    "torch.func": torch_func,
    "torch.compile": functools.partial(torch_func, make=compiled_step),
    "torch.autograd loop": torch_loop,
    "TorchOpt": torchopt_,
    "higher": higher_,
}


def load(path):
    arrays = dict(np.load(path))
    net = Conv4 if "body/conv1/kernel" in arrays else MLP
    return net(arrays), net.tasks(*(arrays[name] for name in ("xs", "ys", "xq", "yq")))


def main():
    loaded = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["system"] == "versions":
                names = ("torch", "torchopt", "higher")
                reply = {
                    d.name: d.version for d in importlib.metadata.distributions() if d.name in names
                }
            else:
                if request["file"] not in loaded:
                    loaded[request["file"]] = load(request["file"])
                net, tasks = loaded[request["file"]]
                begin, begin_cpu = time.perf_counter(), time.process_time()
                repeats = request.get("repeats", 1)
                for _ in range(repeats):
                    value, grads = SYSTEMS[request["system"]](
                        net, tasks, request["steps"], request["rate"]
                    )
                elapsed, cpu = (
                    1e3 * seconds / repeats
                    for seconds in (time.perf_counter() - begin, time.process_time() - begin_cpu)
                )
                norm = torch.sqrt(sum((g.double() ** 2).sum() for g in grads))
                reply = {"ms": elapsed, "cpu_ms": cpu, "loss": float(value), "norm": float(norm)}
        except Exception as error:  # the parent decides what a failing peer means
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
