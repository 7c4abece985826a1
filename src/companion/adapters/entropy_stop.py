"""Measures every checkpoint that verl saves, keeps some policies, and ends a run that has collapsed.

A `trainer.checkpoint_callback_class` of verl 0.9.1 (verl/trainer/ppo/checkpoint_callback.py),
called in the task runner after the files are written (v1/trainer_base.py:1027). To stop, it
lowers the step limit that the training loop compares with (v1/trainer_base.py:467): the step is
finished and logged, and the loop ends as after its last step.
"""

from pathlib import Path

import torch
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from companion.schema import Profile
from companion.stages import verl_files
from companion.stages.entropy import token_entropy


class EntropyStop(CheckpointCallback):
    """Logs `token_entropy` (nats, T = 1) of the saved Hugging Face folder."""

    def __init__(self, config):
        super().__init__(config)
        self.run = Path(config.companion.profile).parent
        self.profile = Profile.model_validate_json(Path(config.companion.profile).read_text())
        self.stop_entropy = config.companion.stop_entropy
        self.kept = list(config.companion.get("kept", []))
        if self.profile.hardware.platform == "cpu":
            torch.set_num_threads(self.profile.hardware.threads)  # the ranks wait meanwhile

    def on_save(self, trainer, global_step, checkpoint_dir, **_):
        policy = Path(checkpoint_dir) / "actor" / "huggingface"
        if global_step in self.kept:  # verl deletes all but its newest two
            verl_files.copy_policy(
                Path(checkpoint_dir), verl_files.kept_policy(self.run, global_step)
            )
        measured = token_entropy(policy, self.profile)
        trainer.logger.log({"token_entropy": measured.value}, step=global_step)
        if self.stop_entropy is not None and measured.value < self.stop_entropy:
            trainer.total_training_steps = global_step
