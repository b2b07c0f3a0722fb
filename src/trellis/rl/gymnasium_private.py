"""All that touches private names of gymnasium: environments stepped with little overhead."""

from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv

from trellis.rl.spaces import check_observation


class SerialEnvironments(SyncVectorEnv):
    """Gymnasium's ``SyncVectorEnv`` with ``AutoresetMode.NEXT_STEP``, without infos and copies.

    With small environments a step takes two thirds of the time. The next step overwrites the
    arrays that a step returned. Observations are a ``Box`` or ``Discrete``; those of each reset
    and of the first step are checked against the space that the environment declares, since
    NumPy would convert others to its shape and type without a word.
    """

    _stepped = False

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Begin an episode in each environment; of one seed, each has the next."""
        if isinstance(seed, int):
            seed = [seed + number for number in range(self.num_envs)]
        for number, environment in enumerate(self.envs):
            own = None if seed is None else seed[number]
            observation, _ = environment.reset(seed=own, options=options)
            check_observation(observation, self.single_observation_space)
            self._observations[number] = observation
        for flags in (self._terminations, self._truncations, self._autoreset_envs):
            flags[:] = False
        return self._observations, {}

    def step(self, actions: Any) -> Any:
        """Step each environment, or reset it where its last step ended an episode."""
        observations, rewards = self._observations, self._rewards
        terminated, truncated = self._terminations, self._truncations
        for number, (environment, over) in enumerate(
            zip(self.envs, self._autoreset_envs.tolist(), strict=True)
        ):
            if over:
                observations[number], _ = environment.reset()
                rewards[number], terminated[number], truncated[number] = 0.0, False, False
            else:
                (
                    observation,
                    rewards[number],
                    terminated[number],
                    truncated[number],
                    _,
                ) = environment.step(actions[number])
                if not self._stepped:
                    check_observation(observation, self.single_observation_space)
                observations[number] = observation
        self._stepped = True
        self._autoreset_envs = np.logical_or(terminated, truncated)
        return observations, rewards, terminated, truncated, {}
