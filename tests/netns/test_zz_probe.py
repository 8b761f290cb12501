import pytest
from .harness import *
from .reports import Look
pytestmark = pytest.mark.netns
def test_x(trio: Fleet) -> None:
    t=trio
    for r in range(14):
        t.stream(1000)
        t.flow(600)
        f=now_ns()
        t.lab.drop("a","alpha","out")
        t.flow(700, ("bravo","charlie"))
        looks={h:t[h].ask(Look()) for h in t.hosts}
        g=t.gaps_ms(t.pairs(), f, now_ns())
        print("ROUND",r,{p:round(x) for p,x in g.items()}, flush=True)
        if max(g.values())>300:
            for k in range(2):
                for h,l in looks.items():
                    print("  ", h,"sent",l.sent,"marks",l.marks,"ref",l.refusals,"acc",l.accept_ns_max/MS,"prim",l.primary,"win",l.stats["windows"],{k:v for k,v in l.stats["driver"].items() if v},l.stats["core"], flush=True)
                t.flow(500, ("bravo","charlie"))
                looks={h:t[h].ask(Look()) for h in t.hosts}
        t.lab.heal("a","alpha")
        try: t.await_paths()
        except AssertionError as e: print("NOPATHS"); 
        t.settle()
    assert 0
