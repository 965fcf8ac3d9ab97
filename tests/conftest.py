"""How hard properties are tried: with the same examples at every run, or with new ones by the ten thousand."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

# A rare case that comes up while somebody changes something else stops the wrong person, and teaches to run CI again
# until it is green. So whoever runs the tests gets the same examples, and whoever hunts asks for `deep`.
settings.register_profile(
    "same", max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", settings.get_profile("same"), max_examples=20_000, derandomize=False)
_PLANTED = settings(settings.get_profile("same"), phases=[Phase.explicit, Phase.generate])
settings.register_profile("planted", _PLANTED)
settings.register_profile("glance", _PLANTED, max_examples=100)  # before `planted`: most bugs are caught by this
settings.load_profile("same")
