"""What annotators have to know about smart tools and pre-labels, as Label Studio shows it with each
project.
"""

from __future__ import annotations

from backend.label_studio.api.presentation import Api

# Label Studio shows HTML before the first task, and behind a button later.
TEXT = """<h3>Masks are there already</h3>
<ol>
<li>Look at each mask. If all are right, press <b>Submit</b>.</li>
<li>A mask too many: click on it, then Backspace.</li>
<li>A wrong class: click on the mask, then on the right label under <i>Masks</i>.</li>
<li>A wrong edge: select the mask in the list of regions first; then the brush adds to it, and the
eraser takes away. Without a selected mask the brush begins a new one.</li>
</ol>
<h3>A missing object: click on it</h3>
<ol>
<li>Switch on <b>Auto-Annotation</b> below the picture, and leave Auto-Accept off.</li>
<li>Take the smart tool, the last one beside the picture (key M): dots are the point, a square with
two corners is the box. M goes from one to the next.</li>
<li>Choose the label under <i>Smart point</i> (keys 1 to 9 and 0) and click on the object, or under
<i>Smart box</i> (keys Q to P) and draw a rough box around it.</li>
<li>Not exact? Choose the label again and click on what is missing; Alt and a click takes away what
does not belong to it.</li>
<li>The tick below the picture accepts the mask, before you go on. A click that was never answered
stays in the task as a point.</li>
</ol>
<p>Behind the sliders below the picture, <i>Keep label selected after creating a region</i> and
<i>Show region labels</i> save half of the work.</p>
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
