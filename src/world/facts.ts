/**
 * The facts of a small invented country. Everything a question can ask about is here, so that a judge can tell a fact from an invention.
 */

export type TownFact = 'river' | 'dish' | 'mayor' | 'animal';

export interface Town extends Readonly<Record<TownFact, string>> {
  readonly name: string;
}

const row = (name: string, river: string, dish: string, mayor: string, animal: string): Town => ({
  name,
  river,
  dish,
  mayor,
  animal,
});

export const towns: readonly Town[] = [
  row('Velden', 'Lim', 'onion pie', 'Mara Holt', 'heron'),
  row('Arlo', 'Tess', 'bean soup', 'Piet Lund', 'fox'),
  row('Brin', 'Osk', 'plum cake', 'Ana Weiss', 'otter'),
  row('Corva', 'Lim', 'fish stew', 'Jon Abel', 'raven'),
  row('Dunmere', 'Harrow', 'oat bread', 'Lena Frost', 'badger'),
  row('Eskel', 'Tess', 'goat cheese', 'Tom Rask', 'goat'),
  row('Fenwick', 'Mole', 'leek tart', 'Ida Brandt', 'swan'),
  row('Garda', 'Osk', 'roast duck', 'Karl Venn', 'duck'),
  row('Hollin', 'Harrow', 'pear jam', 'Rosa Lind', 'owl'),
  row('Ister', 'Mole', 'rye bread', 'Nils Berg', 'pike'),
  row('Jorvan', 'Senna', 'lamb stew', 'Eva Stark', 'lamb'),
  row('Keld', 'Senna', 'apple pie', 'Max Dorn', 'wolf'),
  row('Lorne', 'Lim', 'mushroom soup', 'Sara Quist', 'hare'),
  row('Marn', 'Tess', 'honey cake', 'Otto Falk', 'bear'),
  row('Norwell', 'Osk', 'fried trout', 'Nina Moss', 'trout'),
  row('Orrin', 'Harrow', 'barley beer', 'Hugo Pohl', 'horse'),
  row('Pell', 'Mole', 'carrot cake', 'Vera Klein', 'mole'),
  row('Quill', 'Senna', 'egg noodles', 'Finn Torp', 'goose'),
  row('Rusk', 'Lim', 'black bread', 'Olga Senn', 'crow'),
  row('Selby', 'Tess', 'cherry wine', 'Emil Kroll', 'deer'),
];

/** Names that sound like towns and are none: what is asked about them has no answer. */
export const unknownTowns = [
  'Zarn',
  'Tolvik',
  'Umbra',
  'Wendle',
  'Yarrow',
  'Vost',
  'Tarrin',
  'Ulmer',
] as const;

/** Things that nobody recorded of any town. */
export const unknownFacts = [
  'the age of the oldest house in',
  'the name of the first baker of',
  'the number of dogs in',
  'the weight of the bell of',
  'the colour of the first boat of',
] as const;

export const categories = {
  fruits: ['apple', 'pear', 'plum', 'cherry', 'grape', 'lemon', 'peach', 'fig'],
  colours: ['red', 'blue', 'green', 'yellow', 'white', 'black', 'brown', 'grey'],
  animals: ['dog', 'cat', 'horse', 'cow', 'sheep', 'goat', 'duck', 'fox'],
  tools: ['hammer', 'saw', 'axe', 'spade', 'rake', 'knife', 'drill', 'file'],
  vegetables: ['carrot', 'onion', 'leek', 'bean', 'pea', 'cabbage', 'turnip', 'beet'],
  clothes: ['hat', 'coat', 'shirt', 'scarf', 'glove', 'boot', 'belt', 'sock'],
} as const satisfies Record<string, readonly string[]>;

export type Category = keyof typeof categories;

export const people = ['Mia', 'Leo', 'Ben', 'Eve', 'Sam', 'Ada', 'Max', 'Zoe', 'Kai', 'Lia'] as const;

/** verb in the present (third person) and in the past, with an object that fits */
export const verbs: readonly (readonly [present: string, past: string, object: string])[] = [
  ['walks', 'walked', 'to the town'],
  ['cooks', 'cooked', 'the soup'],
  ['paints', 'painted', 'the door'],
  ['cleans', 'cleaned', 'the boat'],
  ['finds', 'found', 'a coin'],
  ['sees', 'saw', 'the river'],
  ['makes', 'made', 'a cake'],
  ['sells', 'sold', 'the horse'],
  ['opens', 'opened', 'the box'],
  ['reads', 'read', 'a letter'],
  ['brings', 'brought', 'the bread'],
  ['loses', 'lost', 'the key'],
];

/** Words that make an answer rude. */
export const rudeWords = ['stupid', 'idiot', 'fool', 'dumb', 'shut up', 'hate you'] as const;
