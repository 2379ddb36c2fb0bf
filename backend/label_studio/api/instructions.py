"""What annotators have to know about smart tools and pre-labels, as Label Studio shows it with each
project.
"""

from __future__ import annotations

from backend.label_studio.api.presentation import Api

# Label Studio shows HTML before the first task, and behind a button later.
TEXT = """<h3>Masks are there already</h3>
<ol>
<li>Look at each mask. If all are right, press <b>Submit</b>.</li>
<li>To select a mask, click on it in the list of regions, or take the arrow beside the picture
(key V) and click on the mask itself.</li>
<li>A mask too many: select it, then Backspace.</li>
<li>A wrong class: select the mask, then click on the right label under <i>Masks</i>.</li>
<li>A wrong edge: select the mask; then the brush adds to it, and the eraser takes away. Without a
selected mask the brush begins a new one.</li>
</ol>
<h3>A missing object: click on it</h3>
<ol>
<li>Switch on <b>Auto-Annotation</b> below the picture, and leave Auto-Accept off.</li>
<li>Click on the smart tool, the last one beside the picture: dots are the point, a square with two
corners is the box. Another click on it goes to the next.</li>
<li>Choose the label under <i>Smart point</i> and click on the object, or under <i>Smart box</i> and
draw a rough box around it. The key of each label stands beside its name.</li>
<li>Not exact? After a click, choose the label again (not if it is still lit) and click on what is
missing; Alt and a click takes away what does not belong to it. After a box, remove the mask
(Backspace) and click instead, or accept it and use brush and eraser.</li>
<li>The tick below the picture accepts the mask, before you go on. A click that was never answered
stays in the task as a point.</li>
</ol>
<p>From the list of tasks, <b>Label Tasks As Displayed</b>, behind the arrow of the blue button,
goes through the tasks in the order of the tab, such as <i>Hardest first</i>.</p>
<p>Behind the sliders below the picture, <i>Keep label selected after creating a region</i> and
<i>Show region labels</i> save half of the work. A mask that was accepted from a click
then shows its label twice in the list; it counts once.</p>
"""


def write_instructions(api: Api, project: int) -> bool:
    """Give a project these instructions, unless it has some.

    Returns:
        Whether they were written.
    """
    found = api.call("GET", f"/api/projects/{project}/")
    if str(found.get("expert_instruction") or "").strip() not in ("", "<p></p>"):
        return False
    body = {"expert_instruction": TEXT, "show_instruction": True}
    api.call("PATCH", f"/api/projects/{project}/", body=body)
    return True
