import pytest
import torch
from torch import nn

from penchant.policies import linear
from penchant.policies.linear import through_onednn

needs_onednn = pytest.mark.skipif(not linear._has_onednn(), reason="this torch or processor is without oneDNN")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(40, 70), nn.GELU(), nn.Linear(70, 30, bias=False))

    def forward(self, states):
        return self.layers(states)


@pytest.fixture
def net() -> Net:
    return Net()


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 40), (8, 40), (3, 17, 40)])
def test_values_are_those_of_the_layers_in_either_layout(net, shape):
    states = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = net(states)
        with through_onednn(net, pack=False):
            dense = net(states)
        with through_onednn(net, pack=True):
            assert "forward" in vars(net.layers[0])
            packed = net(states)
    torch.testing.assert_close(dense, plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(packed, plain, atol=1e-6, rtol=1e-5)


@needs_onednn
def test_nothing_is_copied_where_memory_is_short(net, monkeypatch):
    packed = []
    monkeypatch.setattr(linear, "_free_memory", lambda: 2 * net.layers[0].weight.nbytes)
    real = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight: packed.append(1) or real(weight))
    with through_onednn(net, pack=True):
        pass
    assert len(packed) == 1


@pytest.mark.parametrize("shape", [(5, 40), (2, 3, 40)])
def test_gradients_are_those_of_the_layers_and_everything_is_as_before_afterwards(net, shape):
    def gradients(states):
        net.zero_grad()
        (net(states) ** 2).sum().backward()
        return [states.grad, *(weight.grad.clone() for weight in net.parameters())]

    states = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = gradients(states.clone().requires_grad_())
    inside = []

    def fail():
        with through_onednn(net, pack=True):
            with torch.no_grad():
                net.layers[0].weight.mul_(2).div_(2)  # a step of training: what is multiplied by is the weight of now
            inside.extend(gradients(states.clone().requires_grad_()))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    for found, gradient in zip(inside, expected, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-5)
    assert not any("forward" in vars(module) for module in net.modules())


@needs_onednn
def test_training_sees_each_step_and_frozen_weights_get_no_gradient(net):
    states = torch.randn(5, 40, requires_grad=True)
    net.layers[0].weight.requires_grad_(False)
    with through_onednn(net, pack=False):
        net(states).sum().backward()
        before = net(states).sum().item()
        with torch.no_grad():
            net.layers[2].weight.add_(1.0)
        assert net(states).sum().item() != pytest.approx(before)
    assert net.layers[0].weight.grad is None
    assert states.grad is not None


@needs_onednn
def test_layers_that_somebody_has_changed_or_that_are_of_other_kinds_are_left_alone(net):
    class Twice(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    net.layers[0] = Twice(40, 70)
    net.layers[2].forward = lambda states: states[..., :30]
    states = torch.randn(5, 40)
    with torch.no_grad(), through_onednn(net, pack=False):
        inside = net(states)
        assert "forward" not in vars(net.layers[0])
    with torch.no_grad():
        assert torch.equal(inside, net(states))
    assert "forward" in vars(net.layers[2])


def test_half_precision_is_left_to_torch(net):
    net.bfloat16()
    with torch.no_grad(), through_onednn(net, pack=True):
        assert not any("forward" in vars(module) for module in net.modules())


def test_free_memory_is_less_than_there_is():
    total = linear.Path("/proc/meminfo")
    if total.exists():
        assert 0 < linear._free_memory() <= int(total.read_text().split()[1]) * 1024
