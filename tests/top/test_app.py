"""The live view under keys and clicks, in a small terminal and in a large one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest
from embedmq.errors import Unavailable
from embedmq.top.app import INTERRUPTED, MOST_ROWS, Top
from embedmq.top.grid import Grid
from embedmq.top.live import Live
from embedmq.top.orders import Wish
from embedmq.top.screens import Help, Question
from embedmq.top.view import View, look
from embedmq_schemas.catalogue import ModelStatus
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.top.fleets import NOW_UNIX_MS, busy_fleet, worker

SMALL, LARGE = (80, 24), (200, 60)


class World:
    """A fleet that says what the test wants, and notes what it is told."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.away: str | None = None
        self.told: list[tuple[Wish, str]] = []
        self.reads = 0
        self.interval_s = 0.1
        self.kafka_away = False

    async def read(self) -> View:
        self.reads += 1
        if self.away is not None:
            raise Unavailable(self.away)
        return self.view

    async def tell(self, wish: Wish, model: str) -> int:
        if self.kafka_away:
            raise Unavailable("Kafka is away")
        self.told.append((wish, model))
        return 41

    def app(self) -> Top:
        return Top(Live(self.read, self.tell), self.interval_s)


@pytest.fixture
def world() -> World:
    return World(busy_fleet())


async def until(pilot: Pilot[None], condition: Callable[[], bool], what: str) -> None:
    """Let the app run until something is so."""
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.01)
    assert condition(), what


def text(app: Top, id: str) -> str:
    return str(app.screen_stack[0].query_one(f"#{id}", Static).render())


def grid(app: Top, id: str = "models") -> Grid:
    return app.screen_stack[0].query_one(f"#{id}", Grid)


def column(app: Top, number: int = 0, table: str = "models") -> list[str]:
    found = grid(app, table)
    return [str(found.get_row_at(row)[number]).strip() for row in range(found.row_count)]


async def shown(pilot: Pilot[None], app: Top) -> None:
    await until(pilot, lambda: grid(app).row_count > 0, "the first view")
    await pilot.pause()


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_all_parts_have_their_place_at_both_sizes(world: World, size: tuple[int, int]) -> None:
    """Nothing overlaps, nothing is outside, and the tables are as wide as the terminal."""
    app = world.app()
    async with app.run_test(size=size) as pilot:
        await shown(pilot, app)
        ids = ("title", "sums", "models", "detail", "workers", "message")
        regions = [app.query_one(f"#{id}").region for id in ids]
        assert [region.y for region in regions] == sorted(region.y for region in regions)
        for before, after in itertools.pairwise(regions):
            assert before.bottom <= after.y
        assert all(region.width == size[0] for region in regions)
        assert regions[-1].bottom <= size[1] - 1  # the keys are below
        assert grid(app).region.height >= 1 + grid(app).row_count
        assert grid(app, "workers").region.height >= 1 + 3
        for found in (grid(app), grid(app, "workers")):
            assert sum(one.get_render_width(found) for one in found.columns.values()) <= size[0]
        assert ("2 resident, pinned" in column(app, len(grid(app).columns) - 1)) == (size == LARGE)
        assert "too old" in text(app, "title")


async def test_keys_and_clicks_sort(world: World) -> None:
    """`s` goes on to the next column, `r` turns it round, a click on a head sorts by it; the cursor keeps its model."""
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await shown(pilot, app)
        assert column(app)[0] == "minilm"
        await pilot.press("s")
        assert column(app)[:2] == ["broken", "ghost"]
        assert grid(app).selected == "minilm"
        await pilot.press("r")
        assert column(app)[0] == "tail"
        before = column(app)
        world.view = look("shop", [worker("a", m=ModelStatus(state="resident"))], NOW_UNIX_MS)
        await until(pilot, lambda: column(app) == ["m"], "the next view")
        world.view = busy_fleet()
        await until(pilot, lambda: column(app) == before, "the order stays")
        fails = [str(one.label).strip() for one in grid(app).ordered_columns].index("FAIL/S")
        at = sum(one.get_render_width(grid(app)) for one in grid(app).ordered_columns[: fails + 1]) - 2
        await pilot.click("#models", offset=(at, 0))
        await until(pilot, lambda: column(app)[0] == "broken", "sorted by failures")
        await pilot.click("#models", offset=(at, 0))
        await until(pilot, lambda: column(app)[-1] == "broken", "turned round")
        await pilot.press("tab", "s", "s")
        assert "workers by HOST" in text(app, "message")
        assert column(app, 0, "workers")[-1] == "0000deadbeef"


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(("key", "wish"), [("l", "load"), ("u", "unload"), ("p", "unpin")])
async def test_a_model_is_told_what_to_do_only_after_a_yes(
    world: World, size: tuple[int, int], key: str, wish: Wish
) -> None:
    """`n` and Escape leave all as it was."""
    app = world.app()
    async with app.run_test(size=size) as pilot:
        await shown(pilot, app)
        for no in ("n", "escape"):
            await pilot.press(key)
            assert isinstance(app.screen, Question)
            await pilot.press(no)
            assert not isinstance(app.screen, Question)
        assert world.told == []
        await pilot.press(key, "y")
        await until(pilot, lambda: world.told == [(wish, "minilm")], "the order")
        await until(pilot, lambda: "order 41" in text(app, "message"), "what became of it")


async def test_an_order_that_kafka_does_not_take_is_said_so(world: World) -> None:
    """And the view goes on."""
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await shown(pilot, app)
        await pilot.press("down", "p")
        world.kafka_away = True
        await pilot.press("y")
        await until(pilot, lambda: "Kafka is away" in text(app, "message"), "why")
        assert world.told == []


async def test_a_redis_that_is_away_is_asked_again_and_the_last_view_stays(world: World) -> None:
    """From the start, too: the view says who is away, and begins when it comes."""
    world.away = "Redis at redis://h:6379 is not there"
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: "is not there" in text(app, "message"), "who is away")
        world.away = None
        await shown(pilot, app)
        await until(pilot, lambda: not text(app, "message"), "no more of it")
        world.away = "Redis at redis://h:6379 is not there"
        await until(pilot, lambda: "asked again" in text(app, "message"), "who is away")
        reads = world.reads
        await until(pilot, lambda: world.reads > reads + 1, "it is asked again")
        assert column(app)[0] == "minilm"


async def test_a_filter_narrows_the_models_until_escape(world: World) -> None:
    """While it is written, keys are letters; Enter goes back to the table."""
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await shown(pilot, app)
        await pilot.press("slash", *"ail", "enter")
        assert column(app) == ["tail"]
        assert not app.query_one("#filter", Input).display
        await pilot.press("p", "y")
        await until(pilot, lambda: world.told == [("pin", "tail")], "keys mean the model that is left")
        await pilot.press("slash", "x")
        await until(pilot, lambda: "no model matches" in text(app, "detail"), "that nothing is left")
        await pilot.press("l")
        assert not isinstance(app.screen, Question)
        await pilot.press("escape")
        assert len(column(app)) == 5


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_help_fits_and_any_key_closes_it(world: World, size: tuple[int, int]) -> None:
    """It names every key."""
    app = world.app()
    async with app.run_test(size=size) as pilot:
        await shown(pilot, app)
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        page = app.screen.query_one(Static)
        assert page.region.height >= str(page.render()).count("\n") + 1
        assert page.region.bottom <= size[1]
        await pilot.press("x")
        assert not isinstance(app.screen, Help)


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", INTERRUPTED)])
async def test_q_ends_it_well_and_ctrl_c_as_interrupted(world: World, key: str, code: int) -> None:
    """While a question is open, too."""
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await shown(pilot, app)
        if code:
            await pilot.press("l")
        await pilot.press(key)
    assert (app.return_code or 0) == code


async def test_thousands_of_models_are_shown_in_part(world: World) -> None:
    """Those on top, by the order; the cursor stays where it was while views come."""
    names = {f"m{number}": ModelStatus(state="resident", items_per_s=number) for number in range(3_000)}
    world.view, world.interval_s = look("shop", [worker("a", **names)], NOW_UNIX_MS), 0.5
    app = world.app()
    async with app.run_test(size=SMALL) as pilot:
        await shown(pilot, app)
        assert grid(app).row_count == MOST_ROWS
        await pilot.press(*["down"] * 12)
        selected, reads = grid(app).selected, world.reads
        await until(pilot, lambda: world.reads > reads + 1, "another view")
        assert grid(app).selected == selected
        assert text(app, "detail").split()[0] == selected
