"""The state file of a fine-tuning run."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from earmark.speaker.finetune.state import STATE_FILE, Progress, read_state, state_contents  # noqa: E402


class GpuScaler:
    """A gradient scaler that is enabled, as with float16 on a GPU; that of torch disables itself without one."""

    def is_enabled(self):
        return True

    def state_dict(self):
        return {"scale": 1024.0, "_growth_tracker": 7}


@pytest.mark.parametrize(
    ("scaler", "expected"),
    [(GpuScaler(), {"scale": 1024.0, "_growth_tracker": 7}), (torch.amp.GradScaler(enabled=False), None)],
)
def test_read_state_returns_the_gradient_scaler_if_there_was_one(tmp_path, scaler, expected):
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    (tmp_path / STATE_FILE).write_bytes(state_contents(Progress({"seed": 1}), network, optimizer, scaler))
    progress, state = read_state(tmp_path, {"seed": 1})
    assert progress == Progress({"seed": 1})
    assert state.get("scaler") == expected
    torch.testing.assert_close(state["classifier"]["weight"], network.weight.detach())
