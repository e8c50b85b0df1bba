// Puts the text of a file into the form. It is sent when the button is pressed, like what was typed.

for (const picker of document.querySelectorAll("input[type=file][data-into]")) {
  picker.parentElement.hidden = false;
  picker.addEventListener("change", async () => {
    const file = picker.files[0], into = document.getElementById(picker.dataset.into), most = Number(picker.dataset.most);
    if (!file) return;
    picker.setCustomValidity(file.size > most ? `The file is larger than ${most} bytes; use remit policy replay.` : "");
    if (picker.reportValidity()) into.value = await file.text();
  });
}
