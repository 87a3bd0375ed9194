"""Write the daemons' flags and metrics into their pages in docs/reference; --check fails if what is there differs.

The text of a flag comes from `--help`, that of a metric from its HELP line; no other place has these texts.
"""

import io
import sys
from collections.abc import Iterator
from typing import Any

from generated_part import table, write_or_check
from prometheus_client import CollectorRegistry

from confcom.controller import settings as controller
from confcom.controller.metrics import ControllerMetrics
from confcom.daemon.common_metrics import ReadinessMetrics, daemon_registry
from confcom.daemon.logs import LogStream
from confcom.daemon.settings import Flag, SettingsParser
from confcom.device_plugin import settings as plugin
from confcom.device_plugin.metrics import PluginMetrics
from confcom.quote_helper import settings as helper
from confcom.quote_helper.metrics import HelperMetrics
from confcom.simulated_pcs import settings as pcs


def main() -> int:
    daemons = ("device_plugin", "controller", "quote_helper")
    plugin_registry, controller_registry, helper_registry = map(registry_of, daemons)
    PluginMetrics(plugin_registry)
    HelperMetrics(helper_registry)
    ControllerMetrics(controller_registry)
    return write_or_check(
        {
            "cli.md": {"flags": flags_table(pcs.settings_parser("confcom collateral serve", {}))},
            "controller.md": {
                "flags": flags_table(controller.settings_parser("confcom controller", {})),
                "metrics": metrics_table(controller_registry),
            },
            "device-plugin.md": {
                "flags": flags_table(plugin.settings_parser("confcom device-plugin", {})),
                "metrics": metrics_table(plugin_registry),
            },
            "quote-helper.md": {
                "flags": flags_table(helper.settings_parser("confcom quote-helper", {})),
                "metrics": metrics_table(helper_registry),
            },
        }
    )


def registry_of(daemon: str) -> CollectorRegistry:
    registry = daemon_registry(LogStream(io.StringIO()))
    registry.register(ReadinessMetrics(daemon, lambda: None))
    return registry


def flags_table(parser: SettingsParser[Any]) -> str:
    return table(["flag", "variable", "default", ""], map(flag_row, parser.flags))


def flag_row(flag: Flag) -> tuple[str, str, str, str]:
    switch = f"`{flag.name}`, `--no-{flag.name.removeprefix('--')}`"
    name = f"`{flag.name} {flag.metavar}`" if flag.metavar else switch
    return name, f"`{flag.variable}`", flag.shown_default, flag.text


def metrics_table(registry: CollectorRegistry) -> str:
    return table(["metric", "type", "labels", ""], metric_rows(registry))


def metric_rows(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    """A metric's name as Prometheus scrapes it, type, labels and text."""
    # prometheus_client tells the names of labels only together with values, of which there are none here.
    collectors: dict[Any, list[str]] = registry._collector_to_names  # noqa: SLF001
    for collector in collectors:
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            shown = ", ".join(f"`{label}`" for label in labels)
            yield f"`{name}`", family.type, shown, family.documentation


if __name__ == "__main__":
    sys.exit(main())
