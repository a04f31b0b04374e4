"""What ``torchrun`` starts twice: gradients are averaged exactly, and both processes end with the same weights."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from silk_fast.training.config import Stage2Config
from silk_fast.training.loop import RunOptions, Trainer
from silk_fast.training.run import find_clips, make_stage, processes
from silk_fast.training.stage import average_gradients

CONFIG = Stage2Config(
    preset="tiny",
    steps=5,
    batch_size=1,
    crop_seconds=0.8,
    precision="fp32",
    adversarial_from=3,
    discriminator_channels=2,
)


def check_averages(rank: int) -> None:
    parameters = [
        torch.nn.Parameter(torch.zeros(3)),
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad, parameters[1].grad = torch.full((3,), 1.0 + rank), torch.tensor([rank, 10.0])
    loss = average_gradients(parameters, torch.tensor(4.0 * rank))
    assert parameters[0].grad.tolist() == [1.5] * 3
    assert parameters[1].grad.tolist() == [0.5, 10.0]
    assert parameters[2].grad is None
    assert loss.item() == 2.0


def check_replicas(data: str, folder: Path, device: str) -> None:
    stage = make_stage(CONFIG, torch.device(device), RunOptions(folder))
    trainer = Trainer(stage, find_clips([data]), RunOptions(folder, workers=0, log_every=1), notice=lambda _: None)
    trainer.run()
    for tensor in (*stage.codec.state_dict().values(), *stage.discriminators.parameters(), *trainer.average.values()):
        gathered = [torch.empty_like(tensor) for _ in range(2)]
        dist.all_gather(gathered, tensor.detach().contiguous())
        assert torch.equal(*gathered)
    if trainer.rank == 0:
        trainer.export(folder / "model")


if __name__ == "__main__":
    data, folder = sys.argv[1:]
    with processes("cpu") as (rank, device):
        check_averages(rank)
        check_replicas(data, Path(folder), device)
