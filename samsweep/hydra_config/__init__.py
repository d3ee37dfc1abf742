"""Between Hydra and the rest: a DictConfig goes no further than here and the commands.

Names a cell's folder, turns a composed configuration into a
:class:`~samsweep.config.RunConfig`, and refuses what cannot be run before anything is created.
The sweeper and the launchers that Hydra calls are here; ``hydra_plugins`` has the names by which
it finds them.
"""

from samsweep.hydra_config.compose import (
    Composer,
    composition,
    options_of_grid,
    with_option_as_text,
)
from samsweep.hydra_config.convert import register_resolvers, to_options, to_run_config
from samsweep.hydra_config.explain import explain, is_refusal
from samsweep.hydra_config.launcher import plan_launcher

__all__ = [
    "Composer",
    "composition",
    "explain",
    "is_refusal",
    "options_of_grid",
    "plan_launcher",
    "register_resolvers",
    "to_options",
    "to_run_config",
    "with_option_as_text",
]
