"""Devices, full float32, and errors of accelerators."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from earmark.errors import EarmarkError  # noqa: E402
from earmark.models.batching import AdaptiveBatches  # noqa: E402
from earmark.models.encoders.torch_encoder import as_embeddings, mean_over_frames  # noqa: E402
from earmark.models.torch_runtime import accelerator_is_lost, is_out_of_memory, resolve_device  # noqa: E402

ITEMS = [np.arange(3, dtype=np.float32) + i for i in range(9)]


@pytest.fixture
def tf32():
    """TF32 is on, as torch sets it for convolutions."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield switches
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def test_resolve_device_turns_tf32_off(tf32):
    assert resolve_device("cpu", "float32") == "cpu"
    assert [switch.allow_tf32 for switch in tf32] == [False, False]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_is_out_of_memory_knows_errors_of_the_libraries(error, expected):
    assert is_out_of_memory(error) is expected and not accelerator_is_lost(error)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: out of memory")])
def test_adaptive_batches_stay_halved_after_out_of_memory(error):
    sizes = []

    def embed(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise error
        return np.stack(batch)

    adaptive = AdaptiveBatches(embed, 8)
    assert all(result.vector is not None for result in adaptive(ITEMS))
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    sizes.clear()
    adaptive(ITEMS)
    assert sizes == [2, 2, 2, 2, 1]


def test_adaptive_batches_stop_when_the_gpu_is_lost():
    calls = []

    def embed(batch):
        calls.append(len(batch))
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")

    with pytest.raises(EarmarkError, match=r"GPU stopped.*device-side assert.*finished clips are kept"):
        AdaptiveBatches(embed, 8)(ITEMS)
    assert calls == [8]


class OnGpu(torch.Tensor):
    """A tensor in the memory of the CPU that says that it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_embeddings_averages_frames_on_the_gpu_as_on_the_cpu(dtype):
    frames = torch.randn(3, 499, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert mean_over_frames(frames, 3).dtype == torch.float64
    np.testing.assert_array_equal(as_embeddings(frames.as_subclass(OnGpu), 3), as_embeddings(frames, 3))


def test_mean_over_frames_leaves_other_outputs_as_they_are():
    for shape in [(3, 8), (2, 5, 8), (3, 0, 8), (8,)]:
        output = torch.zeros(shape)
        assert mean_over_frames(output, 3) is output
