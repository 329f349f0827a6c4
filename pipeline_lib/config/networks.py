"""The segmentation networks: one settings class for each kind, in the folder of the network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..networks.conemos.settings import ConemosUnet
from ..networks.dodnet.settings import DodNet
from ..networks.hermes.settings import HermesUnet
from ..networks.swin_unetr.settings import SwinUnetr
from ..networks.uniseg_unet.settings import UnisegUnet

Network = Annotated[SwinUnetr | DodNet | ConemosUnet | HermesUnet | UnisegUnet, Field(discriminator="kind")]
"""A segmentation network of some size; `kind` says which of these it is."""

DEFAULT_NETWORKS: dict[str, Network] = {
    "swin_unetr": SwinUnetr(kind="swin_unetr"),
    "dodnet": DodNet(kind="dodnet"),
}
"""The published sizes."""
