"""A runtime for MLServer that serves a checkpoint's model.skops; it runs over there and imports nothing of failwb."""

import hashlib
from pathlib import Path

import skops.io
from mlserver.utils import get_model_uri
from mlserver_sklearn import SKLearnModel


class SkopsModel(SKLearnModel):
    "A scikit-learn model as skops keeps it; its settings' `extra` name the `sha256` and the types that are `trusted`."

    async def load(self) -> bool:
        said = self.settings.parameters.extra
        data = Path(await get_model_uri(self.settings)).read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != said["sha256"]:
            raise ValueError(f"{self.name}: sha256 {found}, expected {said['sha256']}")
        asked = skops.io.get_untrusted_types(data=data)
        if refused := sorted(set(asked) - set(said["trusted"])):
            raise ValueError(f"{self.name}: types that are not allowed: {', '.join(refused)}")
        self._model = skops.io.loads(data, trusted=asked)
        return True
