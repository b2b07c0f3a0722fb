"""All that touches private names of huggingface_hub; no other file does.

Its mixin is made to be completed by two methods whose names begin with an underscore.
"""

import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download

from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.export.card import Run
from trellis.lightning_modules.export.folder import FORMATS, export
from trellis.lightning_modules.export.weights import CONFIG, WEIGHTS, load_folder


class HubModel(ModelHubMixin, library_name="trellis", tags=["trellis"]):
    """An objective with the methods of the Hugging Face Hub's models.

    ``save_pretrained(folder)``, ``push_to_hub("user/name")`` and
    ``HubModel.from_pretrained("user/name")`` are those of ``huggingface_hub``; what they write
    and read is the folder of ``trellis export``.

    Args:
        objective: to be published.
        formats: see ``export``.
        run: that it comes from, for the card.
    """

    def __init__(
        self,
        objective: Objective,
        formats: tuple[str, ...] = tuple(FORMATS),
        run: Run | None = None,
    ) -> None:
        self.objective, self.formats, self.run = objective, formats, run

    def _save_pretrained(self, save_directory: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            written = export(
                self.objective, Path(folder, "model"), formats=self.formats, run=self.run
            )
            for path in written.iterdir():
                path.replace(save_directory / path.name)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **options: Any,
    ) -> "HubModel":
        folder = model_id
        if not Path(model_id).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[CONFIG, WEIGHTS],
            )
        return cls(load_folder(folder, **options))
