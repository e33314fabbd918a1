// Tables that scroll can be reached by the keyboard, and each region has a name of its own.
const label = () => {
  document.querySelectorAll('.md-typeset__scrollwrap').forEach((table, index) => {
    table.setAttribute('role', 'region');
    table.setAttribute('aria-label', `Table ${index + 1}`);
    table.toggleAttribute('tabindex', false);
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  });
  document.querySelectorAll('nav.md-code__nav').forEach((buttons, index) => {
    buttons.setAttribute('aria-label', `Code ${index + 1}`);
  });
};
document.querySelector('.md-search').setAttribute('aria-label', 'Search');
new MutationObserver(label).observe(document.querySelector('.md-content'), {childList: true, subtree: true});
addEventListener('resize', label);
label();
