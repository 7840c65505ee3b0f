"""A runner whose data, model and loading processes fit together, before anything is computed."""

from typing import Any

from mmengine.runner import BaseLoop, TestLoop

from medseg_kd.datasets import DataSpec
from medseg_kd.engine.agreement import check_labelled, check_model, check_tested, check_validation, owner_of
from medseg_kd.engine.device_runner import DeviceRunner
from medseg_kd.engine.loading import check_shared_memory, first_batch_bytes, shared_bytes
from medseg_kd.engine.mmseg_data import spec_of
from medseg_kd.engine.nnunet_data import fit_to_data
from medseg_kd.errors import UserError


class DataRunner(DeviceRunner):
    """Compares the data of each loop with the model and with the loop before it, and reads the first item of each."""

    data_spec: DataSpec | None = None
    """What the images of this run are, once a loop with data that tell it is built."""

    _shared_bytes = 0

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model."""
        built = super().build_train_loop(loop)
        check_labelled(self.bare_model, built.dataloader.dataset)
        return self._with_data_checked(built)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model and with what is trained on."""
        return self._with_data_checked(super().build_val_loop(loop))

    def build_test_loop(self, loop: Any) -> BaseLoop:
        """Build the loop, and compare its data with the model."""
        return self._with_data_checked(super().build_test_loop(loop))

    def _with_data_checked(self, loop: BaseLoop) -> BaseLoop:
        """A loop whose data are those that the model, and the loop before it, are made for, and can be loaded."""
        dataset = owner_of(loop.dataloader.dataset, "spec")
        if dataset is not None:
            check_model(self.bare_model, dataset.spec, dataset.data_root)
            if self.data_spec is None:
                fit_to_data(self.bare_model, dataset)
            if self._is_training:
                check_validation(dataset)
            elif isinstance(loop, TestLoop):
                check_tested((self.cfg.get("train_dataloader") or {}).get("dataset"), dataset)
        spec = spec_of(loop.dataloader.dataset, self.bare_model.data_preprocessor) if dataset is None else dataset.spec
        if spec is not None:
            if self.data_spec is not None and (other := self.data_spec.differences(spec)):
                root = (dataset or loop.dataloader.dataset).data_root
                raise UserError(f"{root}: not the images that are trained on:\n  " + "\n  ".join(other))
            self.data_spec = spec
        self._shared_bytes += shared_bytes(loop.dataloader, first_batch_bytes(loop.dataloader))
        check_shared_memory(self._shared_bytes)
        return loop

    @property
    def _is_training(self) -> bool:
        return isinstance(self._train_loop, BaseLoop)
