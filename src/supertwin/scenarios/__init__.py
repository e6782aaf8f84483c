"""Published operating points as cases: what the demo shows and what several claims rest on."""

from supertwin.scenarios.load import Scenario, load_scenario, scenario_names
from supertwin.scenarios.run import Outcome, Published, Stage, run_scenario, run_stages

__all__ = ["Outcome", "Published", "Scenario", "Stage", "load_scenario", "run_scenario", "run_stages", "scenario_names"]
