from tests.screens.test_captions import *
def test_x(home, photographs):
    async def steps(pilot):
        lst = review(pilot).pictures
        def hl(): return [any("on-selected" in st for _, st in line) for line in lst._lines[:1]], lst.has_focus
        print("editor", hl())
        await pilot.press("escape"); print("esc", hl())
        await pilot.press("enter"); print("editor", hl())
        await pilot.press("tab"); print("tab", hl())
        await pilot.press("slash"); print("filter", hl())
        await type_text(pilot, "be"); await pilot.press("enter"); print("list", hl())
    reviewing(photographs, steps)
