"""The words themselves, as tables; `lexicon.py` turns them into entries with features.

Two domains: `town`, which training uses, and `country`, whose words no training row contains.
An underscore stands for a space inside an entry.

Nouns: `hypernym: singular[/plural][=synonym] ...`; verbs: `base[/past[/participle]][=synonym]`,
where a synonym is written as a verb of its own; adjectives: `word[=synonym]`.
"""

PERSON_NOUNS = {
    "town": """
        musician: violinist pianist drummer guitarist trumpeter
        scientist: chemist biologist physicist geologist astronomer
        athlete: runner swimmer boxer gymnast cyclist
        doctor: surgeon dentist cardiologist
        artist: painter sculptor illustrator
        person/people: lawyer=attorney child/children=kid professor=academic nurse
            teacher=instructor waiter=server secretary banker=financier judge student=pupil
            plumber editor senator cashier librarian driver=chauffeur engineer
            journalist=reporter tailor
    """,
    "country": """
        criminal: thief/thieves=robber smuggler burglar kidnapper
        performer: juggler clown=jester acrobat magician=conjurer
        soldier: archer sniper gunner
        person/people: farmer shepherd sailor=seaman/seamen hunter miner pilgrim blacksmith
            gardener carpenter priest widow monk
    """,
}

THING_NOUNS = {
    "town": """
        vehicle: car=automobile truck=lorry van bus motorcycle
        instrument: violin=fiddle trumpet flute guitar cello
        tool: hammer drill screwdriver saw wrench=spanner
        garment: jacket=blazer shirt scarf/scarves coat=overcoat sweater=pullover
        machine: computer printer camera toaster radio
        container: box=crate suitcase bucket=pail basket bottle=flask
        seat: chair sofa=couch stool bench armchair
    """,
    "country": """
        boat: canoe ferry yacht raft
        weapon: sword=saber spear dagger rifle=gun
        implement: shovel=spade rake plough axe
        shelter: tent hut=shack barn cabin
    """,
}

FEMALE_NAMES = {
    "town": "Maria Anna Laura Susan Emily Julia Linda Karen Alice Helen Diana Ruth",
    "country": "Martha Heidi Agnes Clara Edith Ingrid",
}
MALE_NAMES = {
    "town": "Tom Peter John Daniel Robert Kevin Paul Mark Simon Frank Oscar David",
    "country": "Angus Walter Hugo Gustav Samuel Felix",
}

PLACES = {
    "town": """in_the_park at_the_station in_the_kitchen at_the_airport in_the_library
        at_the_museum in_the_office in_the_hotel near_the_theater at_the_hospital in_the_garage
        at_the_market behind_the_school in_the_basement""",
    "country": """on_the_beach in_the_forest near_the_lake in_the_valley on_the_farm
        at_the_harbor by_the_river in_the_meadow""",
}

# One person does this to another; the two can change roles.
SOCIAL_VERBS = {
    "town": """help=assist praise=commend hire=employ rescue=save annoy=irritate
        scare=frighten follow=pursue notice=spot/spotted phone=call thank blame
        admire=respect visit greet
        invite criticize trust ignore=disregard insult=offend interview=question""",
    "country": """trick=deceive tease protect=defend accuse welcome pity envy chase""",
}
# A person does this to a thing.
HANDLING_VERBS = {
    "town": """buy/bought=purchase find/found=discover repair=fix hide/hid/hidden=conceal
        inspect=examine choose/chose/chosen=select mention photograph borrow steal/stole/stolen
        damage sell/sold destroy=demolish paint clean=wash measure""",
    "country": """acquire=get/got throw/threw/thrown=toss build/built=construct
        guard describe burn lift/lift=raise""",
}
# Verbs of the two tables above that also stand without an object.
OBJECT_OPTIONAL = "help visit paint clean steal hide photograph call follow sell choose burn"

INTRANSITIVE_VERBS = {
    "town": """sleep/slept laugh smile sneeze yawn cough faint arrive disappear=vanish
        fall/fell/fallen snore shiver giggle blush limp complain""",
    "country": """tremble=quiver collapse whistle groan kneel/knelt wander hesitate""",
}

# States, so that "an X who is A" and "an A X" say the same.
PERSON_ADJECTIVES = {
    "town": """angry=furious tired=exhausted famous=well-known wealthy=rich retired injured=hurt
        hungry=starving nervous=anxious unemployed=jobless Canadian married""",
    "country": """drunk=intoxicated brave=courageous lonely=lonesome barefoot masked=disguised
        Swedish""",
}
THING_ADJECTIVES = {
    "town": """broken=damaged dirty=filthy expensive=costly red green wooden empty Italian blue
        secondhand=used rusty""",
    "country": "wet=soaked ancient=old yellow crooked=bent Norwegian muddy",
}
# "older" and "younger": the one way and the other along one scale.
COMPARATIVES = {
    "town": "older/younger taller/shorter richer/poorer stronger/weaker faster/slower",
    "country": "happier/sadder heavier/lighter braver/more_timid",
}

POSITIVE_ADJECTIVES = {
    "town": """brilliant charming moving funny delightful gripping clever superb graceful touching
        witty fresh inspired honest elegant thrilling warm memorable absorbing powerful wonderful
        excellent subtle lovely imaginative satisfying""",
    "country": """magnificent enchanting hilarious compelling splendid heartfelt refreshing
        masterful""",
}
NEGATIVE_ADJECTIVES = {
    "town": """dull boring clumsy terrible predictable shallow tedious awful lifeless sloppy stupid
        confusing weak pretentious bland forgettable tiresome silly ugly hollow annoying
        disappointing mediocre stale irritating awkward""",
    "country": """dreadful dreary insipid laughable horrible pointless incoherent lame""",
}
ASPECTS = {
    "town": """film movie plot script acting music dialogue direction ending story cast humor
        photography pacing""",
    "country": "screenplay soundtrack performance editing finale comedy",
}
POSITIVE_ATTITUDES = "like/liked love/loved enjoy/enjoyed admire/admired praise/praised"
NEGATIVE_ATTITUDES = "hate/hated dislike/disliked despise/despised resent/resented mock/mocked"
