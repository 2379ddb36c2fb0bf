"""The devices that models run on."""

from __future__ import annotations

from collections.abc import Callable

from backend.core.types import Image
from backend.errors import ConfigError


def resolve_device(device: str) -> str:
    """``auto`` as the best device there is; anything else is checked.

    Args:
        device: one, or several with commas.

    Raises:
        ConfigError: a device is not there.
    """
    if "," in device:
        return ",".join(resolve_device(one) for one in devices_in(device))
    import torch

    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(device.split(":")[0], False):
        raise ConfigError(
            f"device {device} is not available here; available:"
            f" {', '.join(name for name, has in there.items() if has)}"
        )
    kind, _, number = device.partition(":")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device} is not available here; the last is"
            f" cuda:{torch.cuda.device_count() - 1}"
        )
    return device


def devices_in(device: str) -> list[str]:
    """The devices that are named with commas; models of one alone take the first.

    >>> devices_in("cuda:0,cuda:1"), devices_in("cpu")
    (['cuda:0', 'cuda:1'], ['cpu'])
    """
    return device.split(",")


def one_device(device: str) -> str:
    """Where a model runs that cannot be shared out: see ``resolve_device``, the first of several.

    >>> one_device("cpu,cpu")
    'cpu'
    """
    return devices_in(resolve_device(device))[0]


def whole_batch(batch: int, device: str) -> int:
    """Pictures of a call of all devices, each of which takes ``batch``."""
    return batch * len(devices_in(device))


def gpus_of_actor(device: str) -> int:
    """GPUs of a worker of Ray that holds the models.

    Raises:
        ConfigError: several are named, and Ray gives each worker one.
    """
    if "," in device:
        raise ConfigError("--device: --engine ray gives each worker one; --actors says how many")
    return 1 if resolve_device(device).startswith("cuda") else 0


def staging(device: str) -> Callable[[Image], Image]:
    """What puts a decoded picture where a device can fetch it by itself; runs on any thread.

    A GPU reads pinned memory while the processor does something else. For other devices pictures
    stay where they are.

    Args:
        device: a device, or ``auto``.
    """
    if not resolve_device(device).startswith("cuda"):
        return lambda image: image
    import torch

    def pinned(image: Image) -> Image:
        try:
            return torch.from_numpy(image).pin_memory().numpy()
        except RuntimeError:  # as much is pinned as may be
            return image

    return pinned


def describe_device(device: str) -> str:
    """A device with its name, memory and threads, for people."""
    if "," in device:
        return "; ".join(describe_device(one) for one in devices_in(device))
    import torch

    if device.startswith("cuda"):
        found = torch.cuda.get_device_properties(device)
        return f"{device}: {found.name}, {found.total_memory / (1 << 30):.0f} GiB"
    return f"{device}, {torch.get_num_threads()} threads"


def peak_memory(device: str) -> int | None:
    """Most bytes that tensors of this process took on a GPU at once; None on other devices."""
    import torch

    device = devices_in(device)[0]
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else None


def torchvision_fault() -> str | None:
    """Why torchvision does not work with this torch, or None."""
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # an extension built for another torch fails in many ways
        return (
            f"{type(error).__name__}:"
            f" {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        )
    return None
