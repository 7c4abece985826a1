"""TS-OPSD as an ms-swift plug-in: `swift rlhf --rlhf_type gkd --external_plugins <this file>`.

Stock GKD cannot express the method (its temperature divides teacher and student alike) and runs
a second forward for the teacher. Here the teacher is the student's own logits over tau: no
teacher model, one forward. (A frozen teacher is ms-swift's `--teacher_model`, of which only the
logits are taken.)

Written against ms-swift 4.6.0: GKDTrainer.compute_loss and _prepare_batch_inputs
(rlhf_trainers/gkd_trainer.py), RolloutTrainerMixin._generate_completions and
_prepare_vllm_engine (rlhf_trainers/rollout_mixin.py), SwiftMixin._save_model (trainers/mixin.py),
Template._swift_encode (template/base.py), hf_load_dataset (dataset/loader.py:59),
TrainerFactory.TRAINER_MAPPING, callbacks_map.
tests/test_reheat.py and tests/test_ranks.py fail when one of these changes its meaning.
"""

from __future__ import annotations

import gc
import glob
import json
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list
from datasets import load_dataset
from swift.callbacks import TrainerCallback, callbacks_map
from swift.dataset import loader
from swift.model import ModelMeta, register_model
from swift.rlhf_trainers.gkd_trainer import GKDTrainer
from swift.template import Template, TemplateMeta, register_template
from swift.trainers.trainer_factory import TrainerFactory
from swift.utils import HfConfigFactory
from torch.distributed.fsdp import FSDPModule
from transformers.modeling_utils import unwrap_model
from trl.trainer.utils import disable_dropout_in_model

from companion import metrics
from companion.distillation import self_distillation, through_head
from companion.objective import Direction
from companion.policies import encode_prompts, end_tokens
from companion.schema import Profile
from companion.stages.answers import cut
from companion.stages.entropy import entropy_row, token_entropy
from companion.stages.reading import answering
from companion.stages.reheat import crossed, diverged
from companion.stages.sampling import sample
from companion.stages.swift_command import MODEL_TYPE, PLAN

TRAINER_STATE = ("pytorch_model_fsdp*", "optimizer*")
"""Files of a checkpoint that only a resumed trainer reads: three times its policy's size on GPUs."""


class SelfDistillationTrainer(GKDTrainer):
    """GKD whose loss is the self-temperature KL, averaged over all answer tokens of an update."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        profile, self.direction = read_plan(self.args.output_dir)
        self.tau, self.through_head = profile.reheat.tau, profile.reheat.through_head
        self.end_tokens = end_tokens(Path(self.model.model_info.model_dir))
        disable_dropout_in_model(self.model)  # which its answers were sampled without
        add_up_in_float32(getattr(self.accelerator.state, "fsdp_plugin", None))

    def _prepare_vllm_engine(self):
        """vLLM answers in bf16; ms-swift would give it the dtype that the weights are kept in."""
        info = self.model.model_info
        kept, info.torch_dtype = info.torch_dtype, torch.bfloat16
        try:
            return super()._prepare_vllm_engine()
        finally:
            info.torch_dtype = kept

    def _generate_completions(self, samples: list) -> list:
        """Rollouts: vLLM where ms-swift runs it, else the sampler that also stands behind verl.

        ms-swift's own engine for transformers takes three times as long on CPU (it drops no
        ended answer, and decodes every row at every token to look for stop words), turns top-k
        -1 into the model's own, and loses sampled pad tokens.
        """
        if self.use_fast_infer:
            return super()._generate_completions(samples)
        tokenizer = self.processing_class
        samples = self._preprocess_inputs(samples)
        answers = sample(
            self.model.eval(),
            encode_prompts(tokenizer, [s.messages for s in samples]),
            end_tokens=self.end_tokens,
            max_new_tokens=self.args.max_completion_length,
            temperature=self.args.temperature,
            top_p=self.args.top_p,
            seed=self.args.seed * 1_000_003 + self.state.global_step,
            first=self.accelerator.process_index * len(samples),
        )
        self.model.train()
        for s, tokens in zip(samples, answers.tokens, strict=True):
            s.messages.append({"role": "assistant", "content": tokenizer.decode(tokens)})
            s.response_token_ids = tokens
        return samples

    def _prepare_batch_inputs(self, samples: list) -> list[dict]:
        """As GKDTrainer, plus the number of answer tokens in the update, over all ranks.

        Micro-batches get answers of like lengths: less padding, and the same mean.
        """
        samples = sorted(samples, key=lambda s: len(s.response_token_ids))
        batches = super()._prepare_batch_inputs(samples)
        count = sum((batch["model_inputs"]["labels"] != -100).sum() for batch in batches)
        total = self.accelerator.gather(count.reshape(1)).sum().item()
        for batch in batches:
            batch["total_tokens"] = total

        answers = [s.response_token_ids for s in samples]
        lengths = torch.tensor([float(len(answer)) for answer in answers])
        limit = self.args.max_completion_length
        truncated = torch.tensor([float(cut(answer, limit, self.end_tokens)) for answer in answers])
        self.custom_metrics["train"]["response_length"].update(lengths)
        self.custom_metrics["train"]["truncated"].update(truncated)
        return batches

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """This micro-batch's share of the mean KL over the update's tokens.

        Trainer.training_step divides by the number of micro-batches, and the gradient is averaged
        over ranks; both are undone, so that the update is the same however it is split up.
        """
        model_inputs = dict(inputs["model_inputs"])
        if self.get_use_logits_to_keep():
            self.prepare_logits_to_keep(model_inputs)
        labels = model_inputs.pop("labels").roll(-1, dims=1)  # the first one is always masked
        outputs, (total, kl, entropy) = self._distilled(model, model_inputs, labels != -100)
        self.custom_metrics["train"]["kl"].update(kl.detach())
        self.custom_metrics["train"]["rollout_entropy"].update(entropy)
        shares = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        loss = total * shares / max(inputs["total_tokens"], 1)
        return (loss, outputs) if return_outputs else loss

    def _distilled(self, model, model_inputs, chosen):
        """The model's outputs, and (sum of KL, KL, entropy) of the chosen positions."""
        if self.through_head:
            return self._through_head(model, model_inputs, chosen)
        softened = self._of_teacher(model_inputs, chosen) if self.teacher_model else None
        outputs = model(**model_inputs)
        logits = outputs.logits[chosen]
        kl, entropy = self_distillation(logits, self.tau, self.direction, softened)
        return outputs, (kl.sum(), kl, entropy)

    def _through_head(self, model, model_inputs, chosen):
        """The same where the head is fused with the loss and answers with it in place of logits:
        within the model's own forward pass, since FSDP2 shards the head again after it.
        """
        head = unwrap_model(model).get_output_embeddings()
        with self._teacher_head(model_inputs, chosen) as teacher:

            def fused(hidden):
                student = hidden[chosen], head.weight
                return through_head(*student, self.tau, self.direction, teacher)

            with answering(head, fused):
                outputs = model(**model_inputs)
        return outputs, outputs.logits

    @contextmanager
    def _teacher_head(self, model_inputs, chosen):
        """A frozen teacher's hidden states at the chosen positions, and its head; None of a live one."""
        if not self.teacher_model:
            yield None
            return
        head = unwrap_model(self.teacher_model).get_output_embeddings()
        with answering(head, lambda hidden: hidden):
            hidden = self._of_teacher(model_inputs, chosen)
        with gathered(self.teacher_model):
            yield hidden, head.weight

    @torch.no_grad()
    def _of_teacher(self, model_inputs, chosen):
        """What a frozen teacher's head says of the chosen positions."""
        return self.teacher_model(**model_inputs).logits[chosen]

    def _save_model(self, output_dir=None, state_dict=None) -> None:
        """Where FSDP gathers it, a head tied to the embeddings is there under both names, and
        saving would drop the embeddings': a file that vLLM does not load.
        """
        if state_dict is not None:
            for copy in unwrap_model(self.model).all_tied_weights_keys:
                state_dict.pop(copy, None)
        super()._save_model(output_dir, state_dict)


def add_up_in_float32(plugin) -> None:
    """Have FSDP2 add up gradients over micro-batches, and over ranks, in fp32.

    accelerate's policy for bf16 does it in bf16 (utils/dataclasses.py, set_mixed_precision), which is
    1% off after 128 micro-batches. The model is sharded by it when training begins.
    """
    if plugin is not None and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32
        )


@contextmanager
def gathered(model):
    """Within this context a model's outer parameters, its head among them, are whole (FSDP2)."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


class MeasureAndStop(TrainerCallback):
    """Measures every saved checkpoint and writes metrics.jsonl, one line a step.

    Of the line, `token_entropy` is the one measure (of the checkpoint, after the update);
    the rest is ms-swift's, of the rollouts before the update.
    """

    def __init__(self, args, trainer) -> None:
        super().__init__(args, trainer)
        self.profile, _ = read_plan(args.output_dir)
        self.row: dict[str, float] = {}

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs) -> None:
        """Let a resumed trainer go on with the prompts where it was.

        TRL's RepeatSampler (0.29.1, trainer/utils.py) shuffles every epoch by one generator, which
        begins again with the process; here it draws the epochs that are over once more.
        """
        for _ in range(int(state.epoch or 0)):
            for _ in train_dataloader.batch_sampler:
                pass

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.begun = time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "kl" not in (logs or {}):  # the summary at the end of training
            return
        names = ("rollout_entropy", "kl", "grad_norm", "response_length", "truncated")
        self.row = {"step": state.global_step} | {name: logs[name] for name in names}
        self.row["seconds"] = round(time.monotonic() - self.begun, 3)
        if not control.should_save:
            self._write(args, state)

    def on_save(self, args, state, control, **kwargs) -> None:
        # What torch keeps of the update and of the save, on each rank's GPU, vLLM now needs there.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
        measured: list[dict[str, float]] = [{}]
        if state.is_world_process_zero:
            measured = [entropy_row(token_entropy(checkpoint, self.profile))]
        broadcast_object_list(measured)
        self.row |= measured[0]
        self._write(args, state)
        if state.is_world_process_zero:
            keep_policies_alone(checkpoint.parent)
        entropy = self.row["token_entropy"]
        if crossed(self.profile, entropy) or diverged(self.profile, entropy):
            control.should_training_stop = True

    def _write(self, args, state) -> None:
        if state.is_world_process_zero:
            metrics.append(Path(args.output_dir).parent / "metrics.jsonl", self.row)


def keep_policies_alone(folder: Path) -> None:
    """Delete from a run's checkpoints, but the two newest, what a trainer would resume with."""
    saved = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in saved[:-2]:
        for file in (file for pattern in TRAINER_STATE for file in checkpoint.glob(pattern)):
            file.unlink()


class ChatTemplate(Template):
    """The tokenizer's own chat template, as verl and the evaluation apply it.

    ms-swift's jinja backend would do for inference, but in training it puts the prompt into the
    loss and renders the answer's token ids as text.
    """

    def _swift_encode(self, inputs):
        messages = inputs.messages
        system = [{"role": "system", "content": inputs.system}] if inputs.system else []
        answer = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
        asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
        prompt = self.tokenizer.apply_chat_template(
            system + asked, tokenize=False, add_generation_prompt=True
        )
        if answer is None:
            return [prompt], [0.0], 0
        return [prompt, answer], [0.0, 1.0], 1  # contexts, their loss scales, answer contexts


def read_plan(output_dir: str) -> tuple[Profile, Direction]:
    """What `stages.reheat` asks for, beside ms-swift's own arguments."""
    plan = json.loads(Path(output_dir, PLAN).read_text())
    return Profile(**plan["profile"]), plan["direction"]


def load_file(kind, data_files: str, **asked):
    """`datasets.load_dataset` of one file, whatever it is called: brackets would be a pattern."""
    return load_dataset(kind, data_files=glob.escape(data_files), **asked)


loader.hf_load_dataset = load_file
# For DeepSpeed, which is not used: where a family has another name for hidden_size, as GPT-2, it
# would be set to None (utils/hf_config.py:172).
HfConfigFactory.compat_zero3 = staticmethod(lambda config: None)
TrainerFactory.TRAINER_MAPPING["gkd"] = f"{__name__}.{SelfDistillationTrainer.__name__}"
callbacks_map["measure_and_stop"] = MeasureAndStop
register_model(ModelMeta(MODEL_TYPE, [], template="chat_template"))
register_template(
    TemplateMeta("chat_template", prefix=[], prompt=[], chat_sep=None, template_cls=ChatTemplate)
)
