from mmengine.dataset import DefaultSampler

from medseg_kd.datasets import CaseDataset, SeededSampler, SliceDataset
from medseg_kd.evaluation import VolumeMetric

# A folder in any format, which tells what its images are; or dataset.spec does.
data_root = "data"
# Training cases to validate on instead of the test cases, such as ["case0005", "case0006"].
val_cases = []
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type=SeededSampler),
    dataset=dict(type=SliceDataset, data_root=data_root, split="train", cache="auto"),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CaseDataset, data_root=data_root, split="test"),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=CaseDataset, data_root=data_root, split="test"),
)
val_evaluator = dict(type=VolumeMetric, measures=("Dice",), protocols=("transunet",), per_class=True)
test_evaluator = dict(type=VolumeMetric)
