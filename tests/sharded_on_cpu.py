"""An ms-swift plug-in for tests: FSDP2 over gloo, which accelerate has for GPUs alone.

Answers come ready, since a sharded policy must take as many steps on every rank, and here no vLLM
samples in its place.
"""

import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from swift.trainers.trainer_factory import TrainerFactory

begin = AcceleratorState.__init__


def begin_sharded(self, mixed_precision=None, cpu=False, **plugins):
    PartialState(cpu)
    if plugins.get("fsdp_plugin"):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    begin(self, mixed_precision, cpu, **plugins)


def answer(self, samples):
    """To each prompt a few of its own tokens, and the end."""
    tokenizer = self.processing_class
    samples = self._preprocess_inputs(samples)
    for sample in samples:
        prompt = tokenizer.encode(sample.messages[-1]["content"])
        tokens = [*prompt[: 3 + sum(prompt) % 7], tokenizer.eos_token_id]
        sample.messages.append({"role": "assistant", "content": tokenizer.decode(tokens)})
        sample.response_token_ids = tokens
    return samples


AcceleratorState.__init__ = begin_sharded
module, _, name = TrainerFactory.TRAINER_MAPPING["gkd"].rpartition(".")
getattr(sys.modules[module], name)._generate_completions = answer
