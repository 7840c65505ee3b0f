"""What the machine has, and whether what a run needs of it works."""

import importlib
import multiprocessing
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medseg_kd.report.doctor.results import BROKEN, CHECKS, NOTE, OK, Row, check

_SECONDS = 120


@check("devices")
def _devices(cfg: Any) -> Iterator[Row]:
    import torch

    if not torch.cuda.is_available():
        text, driver = f"torch {torch.__version__}, no GPU", shutil.which("nvidia-smi")
        remedy = "install a build of torch for CUDA (its index, not +cpu), and a driver that is new enough"
        yield (NOTE, f"{text}, but there is {driver}", remedy) if driver else (OK, text, "")
    for index in range(torch.cuda.device_count()):
        name, own = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        built = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))
        of_kind = [(kind, (int(major), int(minor))) for kind, major, minor in built]
        fits = any(arch <= own and (kind == "compute" or arch[0] == own[0]) for kind, arch in of_kind)
        text = f"{name}, {free >> 20} of {total >> 20} MB free, sm_{own[0]}{own[1]}, CUDA {torch.version.cuda}, cuDNN "
        text += str(torch.backends.cudnn.version())
        remedy = f"install a torch that is built for sm_{own[0]}{own[1]}; this one has {torch.cuda.get_arch_list()}"
        yield (OK, text, "") if fits else (BROKEN, text, remedy)


@check("processor")
def _processor(cfg: Any) -> Iterator[Row]:
    import torch

    from medseg_kd.models.precision import native_dtype, native_dtype_reason

    kind = torch.backends.cpu.get_cpu_capability()
    slow = "this processor lacks AVX2, or ATEN_CPU_CAPABILITY hides it" if kind == "DEFAULT" else ""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, {kind}"
    yield NOTE if slow and platform.machine() in ("x86_64", "AMD64") else OK, cores, slow
    emulated = "" if native_dtype("cpu") is torch.bfloat16 else "bf16 would be emulated, ten times slower: take float32"
    yield NOTE if emulated else OK, native_dtype_reason("cpu"), emulated


@check("limits")
def _limits(cfg: Any) -> Iterator[Row]:
    shared = Path("/dev/shm")
    if sys.platform == "linux" and shared.is_dir():
        size = shutil.disk_usage(shared)
        small = size.free < 1 << 30
        remedy = "start the container with --shm-size=8g or --ipc=host, or set num_workers=0" if small else ""
        yield NOTE if small else OK, f"{shared}: {size.free >> 20} of {size.total >> 20} MB free", remedy
    if os.name == "posix":
        import resource

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        few = 0 <= files < 4096
        yield NOTE if few else OK, f"{files} open files", "ulimit -n 65536" if few else ""
    folder = Path((cfg or {}).get("work_dir", "work_dirs")).absolute()
    place = next(each for each in (folder, *folder.parents) if each.exists())
    free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
    remedy = "" if writable and free > 5 << 30 else "choose another --work-dir"
    text = f"{folder}: {free >> 30} GB free" + ", not writable" * (not writable)
    yield OK if not remedy else NOTE if writable else BROKEN, text, remedy


@check("training step", "pip install --force-reinstall torch; on a GPU look at the driver (nvidia-smi)")
def _step(cfg: Any) -> Iterator[Row]:
    import torch

    from medseg_kd.models.precision import native_dtype

    torch.from_numpy(importlib.import_module("numpy").ones(1))  # fails where the two do not know each other
    for device in ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]:
        lower = {torch.bfloat16, torch.float16} if device != "cpu" else {torch.float32}
        for dtype in sorted({torch.float32, native_dtype(device), *lower}, key=str, reverse=True):
            layer = torch.nn.Conv2d(1, 8, 3).to(device)
            with torch.autocast(device.partition(":")[0], dtype, enabled=dtype is not torch.float32):
                loss = layer(torch.ones(2, 1, 32, 32, device=device)).float().square().mean()
            loss.backward()
            right = layer.weight.grad is not None and bool(torch.isfinite(layer.weight.grad).all())
            text = f"convolution and its gradient on {device} in {str(dtype).removeprefix('torch.')}"
            yield (OK, text, "") if right else (BROKEN, f"{text}: not finite", CHECKS["training step"][1])


@check("loading", "set num_workers=0; in a container raise --shm-size")
def _loading(cfg: Any) -> Iterator[Row]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    for method in multiprocessing.get_all_start_methods():
        data = TensorDataset(torch.arange(4))
        try:
            loader = DataLoader(data, num_workers=1, timeout=_SECONDS, multiprocessing_context=method)
            yield OK, f"a process by {method} gave {sum(1 for _ in loader)} of {len(data)} items", ""
        except Exception as error:
            yield BROKEN, f"a process by {method}: {type(error).__name__}: {error}", CHECKS["loading"][1]


@check("processes", "train in one process, or look whether this host's name has an address (GLOO_SOCKET_IFNAME=lo)")
def _processes(cfg: Any) -> Iterator[Row]:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dist.all_reduce(torch.ones(1))
    dist.destroy_process_group()
    yield OK, "gloo talks", ""
    if torch.cuda.device_count() > 1 and not dist.is_nccl_available():
        yield BROKEN, "no nccl for several GPUs", "install a build of torch with nccl"


@check("files")
def _files(cfg: Any) -> Iterator[Row]:
    import h5py
    import numpy as np
    import SimpleITK
    from PIL import Image

    content = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    with tempfile.TemporaryDirectory() as folder:
        h5, nifti, png = (Path(folder, f"a{suffix}") for suffix in (".h5", ".nii.gz", ".png"))
        with h5py.File(h5, "w") as file:
            file.create_dataset("image", data=content, compression="gzip")
        with h5py.File(h5, "r") as file:
            read = [file["image"][:]]
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(content), str(nifti))
        Image.fromarray(content[0]).save(png)
        with Image.open(png) as image:
            read += [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(nifti)))]
            read += [np.stack([np.asarray(image), content[1]])]
    wrong = [kind for kind, each in zip(("h5", "NIfTI", "PNG"), read, strict=True) if not np.array_equal(each, content)]
    remedy = f"reinstall what writes it: {CHECKS['files'][1]}"
    yield (BROKEN, f"{' and '.join(wrong)} comes back otherwise", remedy) if wrong else (OK, "h5, NIfTI, PNG", "")


@check("data")
def _data(cfg: Any) -> Iterator[Row]:
    from medseg_kd.datasets.configured import configured_folders

    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = ((cfg or {}).get(loader) or {}).get("dataset")
        for folder in configured_folders(dataset) if dataset else ():
            text = f"{loader}: {len(folder.find())} cases in {folder.reader.root}, format {folder.reader.name}"
            yield OK, text, ""
