import pydantic
import pytest

from mtdnn_tf.errors import UserError
from mtdnn_tf.validation.fields import validated


class Optimizer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    learning_rate: float = pydantic.Field(default=5e-5, gt=0)
    warmup: float = 0.1


class Source(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    file: str
    column: str | int | None = None


class Experiment(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    optimizer: Optimizer | None = None
    sources: list[Source] = []
    by_name: dict[str, Source] = {}
    pair: tuple[Optimizer, Source] | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Experiment":
        if self.name == "nameless":
            raise ValueError("a name must say something")
        return self


def test_what_fits_becomes_the_model():
    experiment = validated(Experiment, {"name": "a", "optimizer": {"warmup": 0}}, "x.yaml")
    assert experiment == Experiment(name="a", optimizer=Optimizer(warmup=0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"name": "a", "optimizer": {"learnin_rate": 1}},
            "optimizer.learnin_rate: unknown key; did you mean 'learning_rate'?",
        ),
        ({"nmae": "a"}, "nmae: unknown key; did you mean 'name'?"),
        (
            {"name": "a", "zzz": 1},
            "zzz: unknown key; known: by_name, name, optimizer, pair, sources",
        ),
        ({}, "name: is required"),
        ({"name": "a", "sources": [{"file": "f"}, {}]}, "sources.1.file: is required"),
        (
            {"name": "a", "sources": [{"fiel": "f"}]},
            "sources.0.fiel: unknown key; did you mean 'file'?",
        ),
        (
            {"name": "a", "by_name": {"x": {"file": "f", "colum": 1}}},
            "by_name.x.colum: unknown key; did you mean 'column'?",
        ),
        (
            {"name": "a", "pair": [{"warmpu": 1}, {"file": "f"}]},
            "pair.0.warmpu: unknown key; did you mean 'warmup'?",
        ),
        (
            {"name": "a", "optimizer": {"learning_rate": -1}},
            "optimizer.learning_rate: should be greater than 0, not -1",
        ),
        (
            {"name": "a", "sources": [{"file": "f", "column": [1]}]},
            "sources.0.column: should be a valid string or should be a valid integer, not [1]",
        ),
        ({"name": "a", "optimizer": 3}, "optimizer: should be a mapping of keys to values, not 3"),
        ({"name": "nameless"}, "a name must say something"),
        (None, "should be a mapping of keys to values, not None"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(data, message):
    with pytest.raises(UserError) as caught:
        validated(Experiment, data, "x.yaml")
    assert str(caught.value) == f"x.yaml: {message}"


def test_a_long_value_is_cut_short():
    with pytest.raises(UserError) as caught:
        validated(Experiment, {"name": ["line\n"] * 1000}, "x.yaml")
    assert len(str(caught.value)) < 150
    assert "\n" not in str(caught.value)
