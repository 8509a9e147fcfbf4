"""Reading what /metrics tells."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from app import metrics

# A sample's name and labels, and its value.
Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def here() -> Series:
    """The series of this process."""
    text, _ = metrics.expose("", "")
    return parse(text.decode())


def value(series: Series, name: str, /, **labels: str) -> float:
    """One series' value; what was never counted is none."""
    return series.get((name, frozenset(labels.items())), 0)


def total(series: Series, name: str, /, **labels: str) -> float:
    """The sum over all series of a name with these labels, whatever others they have."""
    return sum(
        number for (named, found), number in series.items() if named == name and labels.items() <= dict(found).items()
    )
