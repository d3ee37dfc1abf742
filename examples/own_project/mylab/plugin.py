"""What samsweep is told of this project: names and paths, so that planning imports no torch."""

from samsweep import register
from samsweep.config import DataInfo

register.model("tabular_net", "mylab.model.TabularNet")
register.combination("blend", "mylab.optimizer.blend")
register.measure(
    "weight_kurtosis",
    "mylab.measure.weight_kurtosis",
    label="kurtosis of the weights",
    settings=("weights",),
    headline="weight_kurtosis",
)
register.dataset(
    "wine",
    "mylab.data.wine",
    info=DataInfo(
        num_outputs=3,
        input_shape=(13,),
        input_dtype="float32",
        num_train=96,
        num_val=11,
        num_test=71,
    ),
)
