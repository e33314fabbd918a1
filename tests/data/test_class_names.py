from alexnet_jax.data import class_names


def test_imagenet_s_classes_are_in_the_order_of_their_identifiers():
    """As ILSVRC-2012 numbers them everywhere but in its own development kit."""
    names = class_names.imagenet_classes()
    assert len(set(names)) == 1000 and list(names) == sorted(names)
    assert (names[0], names[281], names[999]) == ('n01440764', 'n02123045', 'n15075141')
    assert class_names.display_name('n01440764').startswith('tench')
    assert class_names.display_name('n02123045').startswith('tabby')
    assert class_names.display_name('n15075141').startswith('toilet tissue')


def test_other_names_are_shown_on_one_line():
    assert class_names.display_name('Döner, a\u00a0b\n\x1b[31m') == 'Döner, a\\xa0b\\n\\x1b[31m'


def test_sets_are_compared_by_name_where_they_have_names():
    named, nameless = ('a', 'b'), class_names.unnamed(2)
    assert class_names.same(named, named)
    assert class_names.same(named, nameless) and class_names.same(nameless, named)
    assert not class_names.same(named, ('b', 'a'))
    assert not class_names.same(named, ('a', 'b', 'c'))
    assert not class_names.same(named, class_names.unnamed(3))


def test_short_names_are_first_synonyms_unless_two_classes_share_them():
    """As of ILSVRC-2012: a police van has six names, and two classes are a maillot."""
    van, one, other, cat = 'n03977966', 'n03710637', 'n03710721', 'n02123045'
    assert class_names.display_name(van).count(', ') == 5
    assert class_names.short_names([van, cat, one]) == ['police van', 'tabby', 'maillot']
    assert class_names.short_names([one, van, other]) == [
        'maillot',
        'police van',
        'maillot, tank suit',
    ]
    names = ['Paris, Texas', 'Paris, France', 'a\x1b, b', ', c', '']
    assert class_names.short_names(names) == ['Paris, Texas', 'Paris, France', 'a\\x1b', ', c', '']
