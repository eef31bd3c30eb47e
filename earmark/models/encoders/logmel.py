"""The built-in encoder: mean and standard deviation of log-mel bands over time. No model; a baseline."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import earmark.models.encoders.base as encoders
from earmark.audio.decode import AudioError
from earmark.models.encoders.base import Array, Encoder
from earmark.models.encoders.output import DEFAULT_REQUEST, EmbeddingRequest

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # 25 ms, 10 ms
BANDS, LOWEST, HIGHEST = 40, 20.0, 7_600.0
FLOOR = 1e-10  # of band power: −100 dB relative to a full-scale square wave
VERSION = 1
FRAMES_PER_BLOCK = 4096  # of a spectrum at once


class LogMel(Encoder):
    """Mean and population standard deviation over frames of 40 log-mel bands: 80 values.

    Frames of 25 ms (Hann window) every 10 ms, no padding. Natural logarithm of the power in triangular mel bands from
    20 to 7,600 Hz, with a floor of 1e-10. AudioError for a clip shorter than one frame and for silence, where every
    band of every frame is at the floor.
    """

    def __init__(self) -> None:
        settings = {"version": VERSION, "bands": BANDS, "window": WINDOW, "hop": HOP, "fft": FFT, "floor": FLOOR}
        settings |= {"lowest_hz": LOWEST, "highest_hz": HIGHEST}
        super().__init__("logmel", RATE, encoders.encoder_key("logmel", **settings), settings, 2 * BANDS)

    def prepare(self, waveform: Array) -> Array:
        """Compute the embedding; all work is done in the decoder threads, since there is no model."""
        bands = self.prepare_frames(waveform)
        return np.concatenate([bands.mean(axis=0), bands.std(axis=0)]).astype(np.float32)

    def prepare_frames(self, waveform: Array) -> NDArray[np.float64]:
        """(T', 40) log-mel bands."""
        bands = log_mel(waveform)
        if (bands <= np.log(FLOOR)).all():
            raise AudioError("is silent: no signal in any band")
        return bands

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """(n, 80) prepared embeddings, stacked."""
        return np.stack(prepared)

    def frames_prepared(self, prepared: Sequence[NDArray[np.float64]]) -> list[Array]:
        """Prepared log-mel bands (T', 40) as float32."""
        return [bands.astype(np.float32) for bands in prepared]

    @property
    def has_frames(self) -> bool:
        """Always true."""
        return True

    @property
    def hop_seconds(self) -> float:
        """0.01 s."""
        return HOP / RATE

    def width(self, request: EmbeddingRequest = DEFAULT_REQUEST) -> int:
        """80; 40 for frames, which have no standard deviation."""
        return BANDS if request.frames else 2 * BANDS


def log_mel(waveform: Array) -> NDArray[np.float64]:
    """Compute log-mel bands.

    Parameters
    ----------
    waveform : (n,) float32
        Samples at 16 kHz.

    Returns
    -------
    (T', 40) float64
        Natural logarithm of the power per band.

    Raises
    ------
    AudioError
        If the waveform is shorter than 25 ms.
    """
    if len(waveform) < WINDOW:
        raise AudioError(f"is too short: {1000 * len(waveform) / RATE:.0f} ms, where logmel needs 25 ms")
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP]
    hann = np.hanning(WINDOW + 1)[:-1]
    filters = mel_filters().T
    bands = np.empty((len(frames), BANDS))
    for start in range(0, len(frames), FRAMES_PER_BLOCK):
        power = np.abs(np.fft.rfft(frames[start : start + FRAMES_PER_BLOCK] * hann, FFT)) ** 2
        bands[start : start + FRAMES_PER_BLOCK] = np.log(np.maximum(power @ filters, FLOOR))
    return bands


def mel_filters() -> NDArray[np.float64]:
    """Triangular mel filters with a peak of 1, evenly spaced on the scale 1127 ln(1 + f / 700).

    Returns
    -------
    (40, 257) float64
        Filters by frequency bin.

    Examples
    --------
    >>> mel_filters().shape
    (40, 257)
    """
    edges = 700 * np.expm1(np.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2) / 1127)
    frequencies = np.fft.rfftfreq(FFT, 1 / RATE)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling))


def _mel(frequency: float) -> float:
    return float(1127 * np.log1p(frequency / 700))


def load(_: str, device: str = "auto", dtype: str = "float32") -> LogMel:
    """Create the encoder, which always runs on the CPU in float64."""
    return LogMel()
