"""Small environments with known answers, as gymnasium environments and as finite MDPs.

Each has discrete observations and actions; the moves of the grids are 0 up, 1 right, 2 down,
3 left, and their states are numbered row by row. By name, with a time limit, once this module is
imported: ``gymnasium.make("trellis.rl.environments:trellis/JumpGrid-v0")``, and likewise
``CornerGrid-v0``, ``RecyclingRobot-v0`` and ``RedBlueDoors-v0``. Cliff walking is gymnasium's own
``CliffWalking-v1``, with the same moves; ``finite_mdp`` reads its table too.
"""

from typing import Any

import torch
from torch import Tensor

from trellis.checks import probability
from trellis.rl.dynamic_programming import FiniteMDP

try:
    import gymnasium
    from gymnasium.spaces import Discrete
except ImportError as error:
    raise ImportError(
        'environments need gymnasium: pip install "torch-trellis[rl]"', name="gymnasium"
    ) from error

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
SEARCH, WAIT, RECHARGE = range(3)  # actions of the recycling robot
HIGH, LOW = range(2)  # its battery
RED, BLUE = range(2)


class TabularEnvironment(gymnasium.Env[Any, Any]):
    """An environment that samples its steps from a finite MDP.

    ``reset(options={"state": s})`` starts from state s, as exploring starts need.

    Args:
        mdp: the process.
        start: probabilities ``[S]`` of the first state; by default uniform over the states that
            are not terminal.
    Raises:
        ValueError: probabilities of another shape or sum, or a start in a terminal state.
    """

    def __init__(self, mdp: FiniteMDP, start: Tensor | None = None):
        terminal = mdp.terminal
        if start is None:
            start = (~terminal).double() / max(1, int((~terminal).sum()))
        if start.shape != terminal.shape or abs(start.sum().item() - 1) > 1e-5:
            raise ValueError(
                f"start {list(start.shape)} with sum {start.sum().item():.4g}: give one "
                f"probability for each of {len(terminal)} states"
            )
        if (start[terminal] != 0).any():
            raise ValueError("start: an episode may not start in a terminal state")
        self.mdp = mdp
        self.observation_space = Discrete(len(terminal))
        self.action_space = Discrete(mdp.transitions.size(1))
        self._start = start.double().numpy()
        self._cumulative = mdp.transitions.double().cumsum(-1).numpy()
        self._rewards = mdp.rewards.double().numpy()
        self._terminal = terminal.tolist()
        self._state: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        if options is None or "state" not in options:
            state = int(self.np_random.choice(len(self._start), p=self._start))
        else:
            state = options["state"]
            if not self.observation_space.contains(state) or self._terminal[state]:
                raise ValueError(f"options: no episode can start in state {state}")
        self._state = state
        return state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise RuntimeError("step before reset, or after the end: call reset first")
        state, action = self._state, int(action)
        cumulative = self._cumulative[state, action]
        mass = self.np_random.random() * cumulative[-1]
        next_state = int(cumulative.searchsorted(mass, side="right"))
        reward = self._rewards[state, action]
        reward = float(reward[next_state] if reward.ndim else reward)
        terminated = self._terminal[next_state]
        self._state = None if terminated else next_state
        return next_state, reward, terminated, False, {}


class RedBlueDoors(gymnasium.Env[Any, Any]):
    """A bandit of two doors: 0 red, 1 blue. The red door gives 0 the first time in an episode.

    Else a door gives 1 with its probability, or 0. An agent that relies on its first rewards
    keeps opening the blue door, though red is better. There is one observation, and no end but a
    time limit.

    Args:
        red: probability of a reward behind the red door from the second time on.
        blue: probability of a reward behind the blue door.
    Raises:
        ValueError: not a probability.

    Source: after Silver 2015, lecture 5, whose doors are left and right.
    """

    def __init__(self, red: float = 0.8, blue: float = 0.5):
        self.reward_probs = probability("red", red), probability("blue", blue)
        self.observation_space = Discrete(1)
        self.action_space = Discrete(2)
        self._red_was_opened = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._red_was_opened = False
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        reward = float(self.np_random.random() < self.reward_probs[action])
        if action == RED and not self._red_was_opened:
            self._red_was_opened, reward = True, 0.0
        return 0, reward, False, False, {}


def jump_grid() -> TabularEnvironment:
    """5x5 grid: from A (0, 1) all moves give 10 and lead to (4, 1); from B (0, 3) 5, to (2, 3).

    A move off the grid stays and gives -1, any other 0; it does not terminate. Discount 0.9.

    Source: Sutton and Barto 2018, example 3.5.
    """
    transitions, rewards = _grid(5, 5, reward=0.0, outside=-1.0)
    for state, target, reward in ((1, 21, 10.0), (3, 13, 5.0)):
        transitions[state] = 0.0
        transitions[state, :, target] = 1.0
        rewards[state] = reward
    return TabularEnvironment(FiniteMDP(transitions, rewards))


def corner_grid() -> TabularEnvironment:
    """4x4 grid: -1 for each move until the upper left or lower right corner. Undiscounted.

    A move off the grid stays.

    Source: Sutton and Barto 2018, example 4.1.
    """
    transitions, rewards = _grid(4, 4, reward=-1.0, outside=-1.0)
    for corner in (0, 15):
        transitions[corner] = 0.0
        transitions[corner, :, corner] = 1.0
        rewards[corner] = 0.0
    return TabularEnvironment(FiniteMDP(transitions, rewards))


def recycling_robot(
    alpha: float = 0.9,
    beta: float = 0.4,
    search_reward: float = 2.0,
    wait_reward: float = 1.0,
) -> TabularEnvironment:
    r"""A robot with a battery, states 0 high and 1 low; actions 0 search, 1 wait, 2 recharge.

    Searching gives the larger reward, but may deplete a low battery: the robot is then rescued
    and recharged, with a reward of -3:

    .. math:: r(\text{low}, \text{search}) = \beta r_\text{search} - 3 (1 - \beta)

    Waiting gives less and keeps the battery; recharging gives nothing. It does not terminate.

    Args:
        alpha: probability that a high battery stays high during a search.
        beta: probability that a low battery lasts a search.
        search_reward: :math:`r_\text{search}`.
        wait_reward: :math:`r_\text{wait}`.
    Raises:
        ValueError: alpha or beta outside [0, 1].

    Source: Sutton and Barto 2018, example 3.3.
    Deviates: with a high battery the book's robot cannot recharge; here it may, without effect,
        since a discrete space has every action in every state.
    """
    probability("alpha", alpha)
    probability("beta", beta)
    transitions = torch.zeros(2, 3, 2, dtype=torch.float64)
    rewards = torch.zeros(2, 3, 2, dtype=torch.float64)
    transitions[HIGH, SEARCH, HIGH] = alpha
    transitions[HIGH, SEARCH, LOW] = 1 - alpha
    transitions[LOW, SEARCH, HIGH] = 1 - beta
    transitions[LOW, SEARCH, LOW] = beta
    for battery in (HIGH, LOW):
        transitions[battery, WAIT, battery] = 1.0
        transitions[battery, RECHARGE, HIGH] = 1.0
    rewards[:, SEARCH] = search_reward
    rewards[LOW, SEARCH, HIGH] = -3.0
    rewards[:, WAIT] = wait_reward
    start = torch.tensor([1.0, 0.0])
    return TabularEnvironment(FiniteMDP(transitions, rewards), start)


def finite_mdp(environment: gymnasium.Env) -> FiniteMDP:
    """The MDP of an environment: of this module, or one of gymnasium with a table ``P``.

    Such a table (CliffWalking, FrozenLake) lists probability, next state, reward and termination
    for each state and action. A state where an episode terminates becomes terminal, whatever its
    own entries are.

    Raises:
        ValueError: the environment has neither; names it.
    """
    inner = environment.unwrapped
    if isinstance(inner, TabularEnvironment):
        return inner.mdp
    table = getattr(inner, "P", None)
    if not isinstance(table, dict):
        raise ValueError(f"{inner}: it has no table P of transitions, as CliffWalking-v1 has")
    shape = len(table), len(table[0]), len(table)
    transitions = torch.zeros(shape, dtype=torch.float64)
    rewards = torch.zeros(shape[:2], dtype=torch.float64)
    terminal = set()
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for prob, next_state, reward, terminated in outcomes:
                transitions[state, action, int(next_state)] += prob
                rewards[state, action] += prob * reward
                if terminated:
                    terminal.add(int(next_state))
    for state in terminal:
        transitions[state] = 0.0
        transitions[state, :, state] = 1.0
        rewards[state] = 0.0
    return FiniteMDP(transitions, rewards)


def _grid(height: int, width: int, reward: float, outside: float) -> tuple[Tensor, Tensor]:
    """Transitions ``[S, 4, S]`` and rewards ``[S, 4]`` of moves that do not leave the grid."""
    transitions = torch.zeros(height * width, 4, height * width, dtype=torch.float64)
    rewards = torch.full((height * width, 4), reward, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            state = row * width + column
            for action, (down, right) in enumerate(MOVES):
                inside = 0 <= row + down < height and 0 <= column + right < width
                target = state + down * width + right if inside else state
                transitions[state, action, target] = 1.0
                if not inside:
                    rewards[state, action] = outside
    return transitions, rewards


for _name, _entry in (
    ("JumpGrid", "jump_grid"),
    ("CornerGrid", "corner_grid"),
    ("RecyclingRobot", "recycling_robot"),
    ("RedBlueDoors", "RedBlueDoors"),
):
    gymnasium.register(
        f"trellis/{_name}-v0", entry_point=f"{__name__}:{_entry}", max_episode_steps=200
    )
